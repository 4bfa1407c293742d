import { execFileSync } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'
import { startSandbox, type Sandbox } from '../../sandbox/src/index.ts'
import { openDatabase, type Db } from '../../server/src/db/database.ts'
import { multiply, type Template } from '../../server/test/seed-account.ts'
import { startServer, type ServerProcess } from './processes.ts'
import { OPERATOR_KEY, type World } from './world.ts'

/** A whole reconciliation, with a SIGKILL on its way. */
export type ReconcileFigure = {
  readonly subscriptions: number
  /** Organizations whose mirror was made wrong, and was found and repaired. */
  readonly repaired: number
  /** Pages of Stripe's lists; and the calls that one refetch of each organization would take. */
  readonly pages: number
  readonly callsByOrganization: number
  /** As fast as server, database and sandbox do it on this machine. */
  readonly seconds: number
  /** At the 20 calls a second of one endpoint that the limiter lets through: what it takes at Stripe, at least. */
  readonly secondsAllowed: number
  readonly peakMemoryMb: number
}

const WRONG = 100
/** Calls of a complete refetch: customer, subscriptions, invoices, payment methods, charges. */
const CALLS_OF_REFETCH = 5
const ALLOWED_PER_SECOND = 20
const SECRET = 'whsec_of_the_benchmarks'

/**
 * Fills sandbox and mirror with the same subscriptions, makes some of the mirror wrong, lets a server compare, kills it half-way, and lets
 * another go on. Ends by looking whether everything is repaired.
 */
export async function runReconcile(
  world: World,
  { subscriptions, print }: { subscriptions: number; print: (line: string) => void },
): Promise<ReconcileFigure> {
  await world.db.query('create database reconcile')
  const url = new URL(world.databaseUrl)
  url.pathname = '/reconcile'
  // What is younger than ten minutes would be left to its webhooks.
  const anHourAgo = Math.floor(Date.now() / 1_000) - 3_600
  const sandbox = await startSandbox({ seed: 'bench', clock: { frozen: anHourAgo } })
  const db = openDatabase({ connectionString: url.href })
  const start = () => startServer('./tollgate-server.ts', [url.href, OPERATOR_KEY, sandbox.url, SECRET])
  try {
    const template = await makeTemplate(start, sandbox)
    await multiply({ db, sandbox, template, copies: subscriptions - 1 })
    await makeWrong(db)
    const figure = await measure(db, start, subscriptions)
    await checkRepaired(db)
    print(lineOf(figure))
    return figure
  } finally {
    await db.close()
    await sandbox.stop()
  }
}

type Start = () => Promise<ServerProcess>

async function makeTemplate(start: Start, sandbox: Sandbox): Promise<Template> {
  const server = await start()
  try {
    const post = async (path: string, body: object, key: string) => {
      const headers = { 'x-api-key': key, 'content-type': 'application/json' }
      const answer = await fetch(`http://127.0.0.1:${server.port}/api/v1/${path}`, {
        method: 'POST',
        headers,
        body: JSON.stringify(body),
      })
      if (!answer.ok) throw new Error(`${path} answered ${answer.status}: ${await answer.text()}`)
      return (await answer.json()) as { key: string }
    }
    const organizationId = 'template'
    await post('organizations', { id: organizationId, name: 'Template', email: 'template@example.com' }, OPERATOR_KEY)
    const { key } = await post(`organizations/${organizationId}/api-keys`, { name: 'bench', scopes: ['admin'] }, OPERATOR_KEY)
    await post('billing/subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' }, key)
    return { organizationId, customerId: sandbox.all('customer')[0]!.id }
  } finally {
    await server.stop()
  }
}

/** As if a webhook of each had been lost. */
async function makeWrong(db: Db): Promise<void> {
  await db.query('delete from stripe_reconciliations')
  await db.query(
    `update stripe_subscriptions set data = data || '{"status": "past_due"}'
     where organization_id in (select 'template_' || n * 7 from generate_series(1, $1) n)`,
    [WRONG],
  )
  await db.query('vacuum analyze')
  await db.query('checkpoint')
}

async function measure(db: Db, start: Start, subscriptions: number): Promise<ReconcileFigure> {
  const began = performance.now()
  // Each of subscriptions, invoices, charges and customers; no refund and no dispute are a page each.
  const whole = Math.ceil(subscriptions / 100) * 4 + 2
  const first = await start()
  while ((await readRun(db)).pages < whole / 2) await delay(50)
  process.kill(first.pid, 'SIGKILL')
  await first.stop()
  const second = await start()
  let [run, peakMemoryMb] = [await readRun(db), 0]
  try {
    while (!run.isFinished || run.waiting > 0) {
      await delay(100)
      peakMemoryMb = Math.max(peakMemoryMb, memoryOf(second))
      run = await readRun(db)
    }
  } finally {
    await second.stop()
  }
  if (run.pages !== whole) throw new Error(`${run.pages} pages were compared in two processes, not ${whole}.`)
  const seconds = (performance.now() - began) / 1_000
  const calls = run.pages + run.suspected * CALLS_OF_REFETCH
  return {
    subscriptions,
    repaired: run.suspected,
    pages: run.pages,
    callsByOrganization: subscriptions * CALLS_OF_REFETCH,
    seconds: Math.round(seconds),
    secondsAllowed: Math.round(Math.max(seconds, calls / ALLOWED_PER_SECOND)),
    peakMemoryMb: Math.round(peakMemoryMb),
  }
}

/** `suspected` were seen to differ, of which `waiting` are not refetched yet. */
type RunState = { readonly pages: number; readonly suspected: number; readonly isFinished: boolean; readonly waiting: number }

async function readRun(db: Db): Promise<RunState> {
  const { rows } = await db.query<RunState>(
    `select pages::float8, suspected::float8, finished_at is not null as "isFinished",
       (select count(*) from stripe_syncs where suspected_at is not null)::float8 as waiting
     from stripe_reconciliations order by id desc limit 1`,
  )
  return rows[0] ?? { pages: 0, suspected: 0, isFinished: false, waiting: 0 }
}

function memoryOf({ pid }: ServerProcess): number {
  return Number(execFileSync('ps', ['-o', 'rss=', '-p', String(pid)], { encoding: 'utf8' })) / 1_024
}

async function checkRepaired(db: Db): Promise<void> {
  const { rows } = await db.query<{ wrong: number; found: number }>(
    `select (select count(*)::float8 from stripe_subscriptions where data ->> 'status' <> 'active') as wrong,
       (select count(*)::float8 from stripe_drifts where field = 'status') as found`,
  )
  const [{ wrong, found } = { wrong: NaN, found: NaN }] = rows
  if (wrong !== 0 || found !== WRONG) throw new Error(`${wrong} subscriptions are wrong still, ${found} of ${WRONG} were found.`)
}

function lineOf({
  subscriptions,
  pages,
  callsByOrganization,
  repaired,
  seconds,
  secondsAllowed,
  peakMemoryMb,
}: ReconcileFigure): string {
  const calls = pages + repaired * CALLS_OF_REFETCH
  return [
    `reconciliation of ${subscriptions.toLocaleString('en-US')} subscriptions, killed half-way`,
    `${calls.toLocaleString('en-US')} calls (by organization ${callsByOrganization.toLocaleString('en-US')})`,
    `${seconds} s here, ${secondsAllowed} s at ${ALLOWED_PER_SECOND} calls/s`,
    `server at most ${peakMemoryMb} MB`,
    `${repaired} repaired`,
  ].join('   ')
}
