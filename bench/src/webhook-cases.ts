import { once } from 'node:events'
import { Agent, createServer, request, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { startSandbox, type Sandbox } from '../../sandbox/src/index.ts'
import { openDatabase, type Db } from '../../server/src/db/database.ts'
import type { Case, Measured } from './figures.ts'
import { startServer, type ServerProcess } from './processes.ts'
import { OPERATOR_KEY, type World } from './world.ts'

const ORGANIZATIONS = 100
const CONNECTIONS = 32
const SECRET = 'whsec_of_the_benchmarks'

/** What a customer who subscribes and then takes one seat more sets off at Stripe, as far as both sides handle it. */
const EVENTS = [
  'charge.succeeded',
  'customer.created',
  'customer.subscription.created',
  'customer.subscription.updated',
  'customer.updated',
  'invoice.created',
  'invoice.finalized',
  'invoice.paid',
  'invoice.payment_succeeded',
  'invoice.updated',
  'payment_intent.created',
  'payment_intent.succeeded',
  'payment_method.attached',
]

/** An event byte for byte as the sandbox sent it. */
type Signed = { readonly id: string; readonly body: string; readonly signature: string }

/** Both sides on databases of their own, and the Stripe sandbox that both read. */
type Webhooks = {
  measure(): Promise<Measured>
  measureReference(): Promise<Measured>
  close(): Promise<void>
}

export type WebhookCases = { readonly cases: readonly Case[]; close(): Promise<void> }

/**
 * Webhooks until the last one is handled. Not the same work: we store each event, refetch its organization from Stripe once for
 * all events that wait, and derive account and grants; the engine writes each event's object, or refetches it first.
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
  const recorder = await startRecorder()
  stops.push(() => recorder.stop())
  const sandbox = await startSandbox({
    seed: 'bench',
    webhooks: [{ url: recorder.url, secret: SECRET, enabledEvents: EVENTS }],
  })
  stops.push(() => sandbox.stop())
  // The engine's migrations name this role.
  await world.db.query('do $$ begin create role postgres; exception when duplicate_object then null; end $$')
  const [ownUrl, engineUrl] = [await newDatabase(world, `webhooks_${mode}`), await newDatabase(world, `sync_engine_${mode}`)]
  const own = await startServer('./tollgate-server.ts', [ownUrl, OPERATOR_KEY, sandbox.url, SECRET])
  stops.push(() => own.stop())
  const engine = await startServer('./sync-engine-server.ts', [engineUrl, SECRET, sandbox.url, mode])
  stops.push(() => engine.stop())
  const [ownDb, engineDb] = [openDatabase({ connectionString: ownUrl }), openDatabase({ connectionString: engineUrl })]
  stops.push(
    () => ownDb.close(),
    () => engineDb.close(),
  )

  async function send(events: readonly Signed[]): Promise<Measured> {
    const began = performance.now()
    await deliver(own, '/api/v1/billing/webhook', events)
    while ((await openEvents(ownDb)) > 0) await delay(10)
    const value = rateOf(events, began)
    await checkApplied(ownDb, events)
    return { value }
  }

  async function sendToEngine(events: readonly Signed[]): Promise<Measured> {
    // It handles an event before it answers.
    const began = performance.now()
    await deliver(engine, '/', events)
    return { value: rateOf(events, began) }
  }

  const sold = await makeCustomers(sandbox, own)
  let seats = 1
  await sandbox.settled()
  let events = recorder.take()
  await send(events)
  await sendToEngine(events)
  return {
    async measure() {
      seats += 1
      await takeSeats(sandbox, sold, seats)
      await sandbox.settled()
      events = recorder.take()
      return send(events)
    },
    measureReference: () => sendToEngine(events),
    async close() {
      try {
        await checkMirror(sandbox, ownDb, seats)
        await checkEngine(sandbox, engineDb)
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

/** Takes what the sandbox sends, to be sent on from here. */
async function startRecorder() {
  let recorded: Signed[] = []
  const server = createServer((incoming, response) => {
    const signature = String(incoming.headers['stripe-signature'])
    void text(incoming).then((body) => {
      recorded.push({ id: (JSON.parse(body) as { id: string }).id, body, signature })
      response.writeHead(200).end()
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    take(): readonly Signed[] {
      const taken = recorded
      recorded = []
      return taken
    },
    stop() {
      server.closeAllConnections()
      server.close()
    },
  }
}

/** A subscription with its one item. */
type Sold = { readonly id: string; readonly items: { readonly data: readonly { readonly id: string }[] } }

/** Organizations with a customer, a card and a subscription each, all made at Stripe: we learn of them by webhooks. */
async function makeCustomers(sandbox: Sandbox, own: ServerProcess): Promise<readonly Sold[]> {
  const [price] = sandbox.all('price')
  const sold: Sold[] = []
  for (let index = 0; index < ORGANIZATIONS; index += 1) {
    const id = `bench_${index}`
    await post(`http://127.0.0.1:${own.port}/api/v1/organizations`, {
      headers: { 'x-api-key': OPERATOR_KEY, 'content-type': 'application/json' },
      body: JSON.stringify({ id, name: id, email: `${id}@example.com` }),
    })
    const { id: customer } = await callStripe(sandbox, 'customers', {
      email: `${id}@example.com`,
      payment_method: 'pm_card_visa',
      'invoice_settings[default_payment_method]': 'pm_card_visa',
      'metadata[tollgate_organization]': id,
    })
    sold.push(await callStripe(sandbox, 'subscriptions', { customer, 'items[0][price]': price!.id }))
  }
  return sold
}

/** Another number of seats for everybody, paid at once. */
async function takeSeats(sandbox: Sandbox, sold: readonly Sold[], seats: number): Promise<void> {
  for (const { id, items } of sold) {
    await callStripe(sandbox, `subscriptions/${id}`, {
      'items[0][id]': items.data[0]!.id,
      'items[0][quantity]': String(seats),
      proration_behavior: 'always_invoice',
    })
  }
}

async function callStripe(sandbox: Sandbox, path: string, params: Readonly<Record<string, string>>): Promise<Sold> {
  const headers = { authorization: 'Bearer sk_test_bench' }
  return (await post(`${sandbox.url}/v1/${path}`, { headers, body: new URLSearchParams(params) })) as Sold
}

async function post(url: string, init: { headers: Record<string, string>; body: string | URLSearchParams }): Promise<unknown> {
  const response = await fetch(url, { method: 'POST', ...init })
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${await response.text()}`)
  return response.json()
}

/** Sends events in the order in which Stripe did, over a few connections at once, until each is answered. */
async function deliver(server: ServerProcess, path: string, events: readonly Signed[]): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS })
  let next = 0
  const drive = async () => {
    while (next < events.length) {
      const event = events[next]!
      next += 1
      await deliverOne(agent, { port: server.port, path }, event)
    }
  }
  try {
    await Promise.all(Array.from({ length: CONNECTIONS }, drive))
  } finally {
    agent.destroy()
  }
}

async function deliverOne(agent: Agent, to: { port: number; path: string }, { body, signature }: Signed): Promise<void> {
  const headers = { 'content-type': 'application/json', 'stripe-signature': signature, 'content-length': Buffer.byteLength(body) }
  const sent = request({ agent, host: '127.0.0.1', ...to, method: 'POST', headers })
  sent.end(body)
  const [response] = (await once(sent, 'response')) as [IncomingMessage]
  const answer = await text(response)
  if (response.statusCode !== 200) throw new Error(`A webhook was answered ${response.statusCode}: ${answer}`)
}

function rateOf(events: readonly Signed[], began: number): number {
  return events.length / ((performance.now() - began) / 1_000)
}

async function openEvents(db: Db): Promise<number> {
  const { rows } = await db.query<{ open: number }>(
    'select count(*)::int as open from stripe_events where handled_at is null and parked_at is null',
  )
  return rows[0]!.open
}

async function checkApplied(db: Db, events: readonly Signed[]): Promise<void> {
  const { rows } = await db.query<{ applied: number }>(
    `select count(*)::int as applied from stripe_events where event_id = any($1) and outcome = 'applied'`,
    [events.map(({ id }) => id)],
  )
  expectSame('events applied', rows[0]!.applied, events.length)
}

/** What Stripe has is what we have, seat by seat and cent by cent. */
async function checkMirror(sandbox: Sandbox, db: Db, seats: number): Promise<void> {
  const { rows } = await db.query<{ seats: number; invoices: number; paid: number; accounts: number }>(
    `select (select sum(quantity)::int from stripe_subscription_items) as seats,
       (select count(*)::int from stripe_invoices) as invoices,
       (select sum(amount_paid_minor)::int from stripe_invoices) as paid,
       (select count(*)::int from accounts where plan_key = 'pro') as accounts`,
  )
  const [found] = rows
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0)
  expectSame('seats', found!.seats, ORGANIZATIONS * seats)
  expectSame('invoices', found!.invoices, sandbox.all('invoice').length)
  expectSame('paid', found!.paid, sum(sandbox.all('invoice').map(({ amount_paid: paid }) => paid)))
  expectSame('accounts on the plan', found!.accounts, ORGANIZATIONS)
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
