import { setTimeout as delay } from 'node:timers/promises'
import type { Sandbox } from '../../sandbox/src/index.ts'
import { openDatabase, type Db } from '../../server/src/db/database.ts'
import type { Case, Measured } from './figures.ts'
import { startServer } from './processes.ts'
import { deliver, type Signed } from './webhook-delivery.ts'
import { openStream } from './webhook-stream.ts'
import { OPERATOR_KEY, type World } from './world.ts'

const SECRET = 'whsec_of_the_benchmarks'

/** Both sides on databases of their own, and the Stripe that both read. */
type Webhooks = {
  measure(): Promise<Measured>
  measureReference(): Promise<Measured>
  close(): Promise<void>
}

export type WebhookCases = { readonly cases: readonly Case[]; close(): Promise<void> }

/**
 * Webhooks until the last one is handled, of whole months of an account: mostly renewals, beside signups, cancellations, other cards and
 * seats (webhook-stream.ts). Not the same work: we store each event, refetch its customer from Stripe once for all events that wait,
 * and derive account, grants, revenue and notices; the engine writes each event's object, or refetches it first. Both ask a
 * Stripe that answers from memory, since what the sandbox computes would be Stripe's own machine.
 */
export function webhookCases(world: World): WebhookCases {
  const opened: Promise<Webhooks>[] = []
  const caseOf = (name: string, mode: 'payload' | 'refetch', reference: string): Case => {
    let webhooks: Promise<Webhooks> | null = null
    const open = () => {
      if (webhooks === null) opened.push((webhooks = openWebhooks(world, mode)))
      return webhooks
    }
    return {
      name,
      title: 'webhooks, one refetch for all that wait of a customer',
      reference,
      unit: '/s',
      wanted: 3,
      better: 'more',
      measure: async () => (await open()).measure(),
      measureReference: async () => (await open()).measureReference(),
    }
  }
  return {
    cases: [
      caseOf('webhooks', 'payload', 'stripe-sync-engine, writes the payload'),
      caseOf('webhooks-refetch', 'refetch', 'stripe-sync-engine, refetches each object'),
    ],
    async close() {
      // One that could not be opened has cleaned up after itself.
      for (const webhooks of await Promise.allSettled(opened)) {
        if (webhooks.status === 'fulfilled') await webhooks.value.close()
      }
    },
  }
}

type Stop = () => Promise<void> | void

async function openWebhooks(world: World, mode: 'payload' | 'refetch'): Promise<Webhooks> {
  const stops: Stop[] = []
  const stopAll = async () => {
    for (const stop of stops.toReversed()) await stop()
  }
  try {
    return await startWebhooks(world, mode, { stops, stopAll })
  } catch (error) {
    await stopAll()
    throw error
  }
}

/** Adds to `stops` how what was started is stopped. */
async function startWebhooks(
  world: World,
  mode: 'payload' | 'refetch',
  { stops, stopAll }: { stops: Stop[]; stopAll: () => Promise<void> },
): Promise<Webhooks> {
  const stream = await openStream(SECRET, (id) => newOrganization(own.port, id))
  stops.push(() => stream.stop())
  const stripe = await startServer('./canned-stripe.ts', [stream.sandbox.url])
  stops.push(() => stripe.stop())
  const stripeUrl = `http://127.0.0.1:${stripe.port}`
  // The engine's migrations name this role.
  await world.db.query('do $$ begin create role postgres; exception when duplicate_object then null; end $$')
  const [ownUrl, engineUrl] = [await newDatabase(world, `webhooks_${mode}`), await newDatabase(world, `sync_engine_${mode}`)]
  const own = await startServer('./tollgate-server.ts', [ownUrl, OPERATOR_KEY, stripeUrl, SECRET])
  stops.push(() => own.stop())
  const engine = await startServer('./sync-engine-server.ts', [engineUrl, SECRET, stripeUrl, mode])
  stops.push(() => engine.stop())
  const [ownDb, engineDb] = [openDatabase({ connectionString: ownUrl }), openDatabase({ connectionString: engineUrl })]
  stops.push(
    () => ownDb.close(),
    () => engineDb.close(),
  )

  // The day's comparison with Stripe would begin in the midst of it, and repair what webhooks are about to tell.
  await ownDb.query(
    `insert into stripe_reconciliations (started_at, finished_at, list, updated_at) values (now(), now(), 'customers', now())`,
  )

  async function send(events: readonly Signed[]): Promise<Measured> {
    await post(`${stripeUrl}/load`, stream.customers())
    const began = performance.now()
    await deliver({ port: own.port, path: '/api/v1/billing/webhook' }, events)
    while (await hasOpenEvents(ownDb)) await delay(10)
    const value = rateOf(events, began)
    await checkApplied(ownDb, events)
    const { refetches } = (await (await fetch(`${stripeUrl}/refetches`)).json()) as { refetches: number }
    return { value, note: `${(refetches / stream.living()).toFixed(1)} refetches of a customer` }
  }

  async function sendToEngine(events: readonly Signed[]): Promise<Measured> {
    // It handles an event before it answers.
    const began = performance.now()
    await deliver({ port: engine.port, path: '/' }, events)
    return { value: rateOf(events, began) }
  }

  let events = await stream.begin()
  await send(events)
  await sendToEngine(events)
  return {
    async measure() {
      events = await stream.month()
      return send(events)
    },
    measureReference: () => sendToEngine(events),
    async close() {
      try {
        await checkMirror(stream.sandbox, ownDb)
        await checkEngine(stream.sandbox, engineDb)
      } finally {
        await stopAll()
      }
    },
  }
}

async function newDatabase(world: World, name: string): Promise<string> {
  await world.db.query(`create database ${name}`)
  const url = new URL(world.databaseUrl)
  url.pathname = `/${name}`
  return url.href
}

async function newOrganization(port: number, id: string): Promise<void> {
  await post(`http://127.0.0.1:${port}/api/v1/organizations`, { id, name: id, email: `${id}@example.com` })
}

async function post(url: string, body: unknown): Promise<void> {
  const headers = { 'x-api-key': OPERATOR_KEY, 'content-type': 'application/json' }
  const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) })
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${await response.text()}`)
}

function rateOf(events: readonly Signed[], began: number): number {
  return events.length / ((performance.now() - began) / 1_000)
}

/** Counting them all, a hundred times a second, would be work that nobody else asks of PostgreSQL. */
async function hasOpenEvents(db: Db): Promise<boolean> {
  const { rows } = await db.query('select 1 from stripe_events where handled_at is null and parked_at is null limit 1')
  return rows.length > 0
}

async function checkApplied(db: Db, events: readonly Signed[]): Promise<void> {
  const { rows } = await db.query<{ applied: number }>(
    `select count(*)::int as applied from stripe_events where event_id = any($1) and outcome = 'applied'`,
    [events.map(({ id }) => id)],
  )
  expectSame('events applied', rows[0]!.applied, events.length)
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0)

/** What Stripe has is what we have: every subscription's status and seats, every invoice to the cent, every card. */
async function checkMirror(sandbox: Sandbox, db: Db): Promise<void> {
  const { rows } = await db.query<Record<string, number>>(
    `select (select count(*)::int from stripe_subscriptions where status = 'active') as active,
       (select count(*)::int from stripe_subscriptions where status = 'canceled') as canceled,
       (select sum(quantity)::int from stripe_subscription_items) as seats,
       (select count(*)::int from stripe_invoices) as invoices,
       (select sum(amount_paid_minor)::int from stripe_invoices) as paid,
       (select count(*)::int from stripe_payment_methods) as cards,
       (select count(*)::int from accounts where plan_key = 'pro') as "on the plan"`,
  )
  const subscriptions = sandbox.all('subscription')
  const ofStatus = (wanted: string) => subscriptions.filter(({ status }) => status === wanted).length
  const wanted = {
    active: ofStatus('active'),
    canceled: ofStatus('canceled'),
    seats: sum(subscriptions.flatMap(({ _: { items } }) => items.map(({ quantity }) => quantity ?? 0))),
    invoices: sandbox.all('invoice').length,
    paid: sum(sandbox.all('invoice').map(({ amount_paid: paid }) => paid)),
    cards: sandbox.all('payment_method').filter(({ customer }) => customer !== null).length,
    'on the plan': ofStatus('active'),
  }
  for (const [what, value] of Object.entries(wanted)) expectSame(what, rows[0]![what]!, value)
}

/** Every object has its row. What is in it may be older than Stripe's: of the events of one second, the engine keeps the first. */
async function checkEngine(sandbox: Sandbox, db: Db): Promise<void> {
  const { rows } = await db.query<{ subscriptions: number; invoices: number; charges: number }>(
    `select (select count(*)::int from stripe.subscriptions) as subscriptions, (select count(*)::int from stripe.invoices) as invoices,
       (select count(*)::int from stripe.charges) as charges`,
  )
  expectSame('subscriptions of the engine', rows[0]!.subscriptions, sandbox.all('subscription').length)
  expectSame('invoices of the engine', rows[0]!.invoices, sandbox.all('invoice').length)
  expectSame('charges of the engine', rows[0]!.charges, sandbox.all('charge').length)
}

function expectSame(what: string, found: number, wanted: number): void {
  if (found !== wanted) throw new Error(`${what}: ${found}, not ${wanted}`)
}
