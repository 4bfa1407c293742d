import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import type * as library from '@supabase/stripe-sync-engine'
import { afterEach } from 'vitest'
import type { TestSandbox } from '../../sandbox/test/contract.ts'
import { blankDatabase } from './blank-database.ts'

type Library = typeof library
type StripeSync = InstanceType<Library['StripeSync']>
type Logger = NonNullable<Parameters<Library['runMigrations']>[0]['logger']>
type Revalidated = NonNullable<ConstructorParameters<Library['StripeSync']>[0]['revalidateObjectsViaStripeApi']>

// The library finds its migrations by `__dirname`, which only its CommonJS build has.
const { StripeSync, runMigrations } = createRequire(import.meta.url)('@supabase/stripe-sync-engine') as Library

/** The engine, and a look into its tables. */
export interface SyncEngine {
  readonly sync: StripeSync
  rows(table: string): Promise<Array<Record<string, unknown>>>
}

/**
 * Events are signals: the engine fetches the object again. Without this it keeps, of the events of one second, the one that comes first,
 * since it orders events by their second.
 */
const REVALIDATED: Revalidated = [
  'charge',
  'credit_note',
  'customer',
  'dispute',
  'entitlements',
  'invoice',
  'payment_intent',
  'payment_method',
  'plan',
  'price',
  'product',
  'refund',
  'setup_intent',
  'subscription',
  'subscription_schedule',
  'tax_id',
]

/** Every event that the engine handles and the sandbox can send; it throws on others. */
const EVENTS = [
  'charge.captured',
  'charge.dispute.closed',
  'charge.dispute.created',
  'charge.dispute.funds_reinstated',
  'charge.dispute.funds_withdrawn',
  'charge.dispute.updated',
  'charge.expired',
  'charge.failed',
  'charge.pending',
  'charge.refund.updated',
  'charge.refunded',
  'charge.succeeded',
  'charge.updated',
  'checkout.session.async_payment_failed',
  'checkout.session.async_payment_succeeded',
  'checkout.session.completed',
  'checkout.session.expired',
  'credit_note.created',
  'credit_note.updated',
  'credit_note.voided',
  'customer.created',
  'customer.deleted',
  'customer.subscription.created',
  'customer.subscription.deleted',
  'customer.subscription.paused',
  'customer.subscription.pending_update_applied',
  'customer.subscription.pending_update_expired',
  'customer.subscription.resumed',
  'customer.subscription.trial_will_end',
  'customer.subscription.updated',
  'customer.tax_id.created',
  'customer.tax_id.deleted',
  'customer.tax_id.updated',
  'customer.updated',
  'entitlements.active_entitlement_summary.updated',
  'invoice.created',
  'invoice.deleted',
  'invoice.finalization_failed',
  'invoice.finalized',
  'invoice.marked_uncollectible',
  'invoice.paid',
  'invoice.payment_action_required',
  'invoice.payment_failed',
  'invoice.payment_succeeded',
  'invoice.sent',
  'invoice.updated',
  'invoice.voided',
  'invoice_payment.paid',
  'payment_intent.amount_capturable_updated',
  'payment_intent.canceled',
  'payment_intent.created',
  'payment_intent.partially_funded',
  'payment_intent.payment_failed',
  'payment_intent.processing',
  'payment_intent.requires_action',
  'payment_intent.succeeded',
  'payment_method.attached',
  'payment_method.automatically_updated',
  'payment_method.detached',
  'payment_method.updated',
  'plan.created',
  'plan.deleted',
  'plan.updated',
  'price.created',
  'price.deleted',
  'price.updated',
  'product.created',
  'product.deleted',
  'product.updated',
  'refund.created',
  'refund.failed',
  'refund.updated',
  'setup_intent.canceled',
  'setup_intent.created',
  'setup_intent.requires_action',
  'setup_intent.setup_failed',
  'setup_intent.succeeded',
  'subscription_schedule.aborted',
  'subscription_schedule.canceled',
  'subscription_schedule.completed',
  'subscription_schedule.created',
  'subscription_schedule.expiring',
  'subscription_schedule.released',
  'subscription_schedule.updated',
] as const

const running: Array<() => Promise<void>> = []

afterEach(async () => {
  for (const stop of running.splice(0)) await stop()
})

/** The engine on a database of its own. It has no option for another host, so its public `stripe` is a client of the sandbox. */
export async function startSyncEngine(test: TestSandbox, stripeWebhookSecret = ''): Promise<SyncEngine> {
  const databaseUrl = await blankDatabase()
  await migrate(databaseUrl)
  const sync = new StripeSync({
    poolConfig: { connectionString: databaseUrl, max: 4 },
    stripeSecretKey: 'sk_test_sync_engine',
    stripeWebhookSecret,
    autoExpandLists: true,
    backfillRelatedEntities: false,
    revalidateObjectsViaStripeApi: REVALIDATED,
  })
  sync.stripe = test.stripe
  running.push(() => sync.close())
  return {
    sync,
    rows: async (table) => (await sync.postgresClient.query(`select * from stripe.${table} order by id`)).rows,
  }
}

/** Makes the engine's tables. The library logs what goes wrong and goes on; here it is thrown. */
async function migrate(databaseUrl: string): Promise<void> {
  const failures: unknown[] = []
  const logger = { info: () => {}, error: (error: unknown) => failures.push(error) }
  await runMigrations({ databaseUrl, schema: 'stripe', logger: logger as unknown as Logger })
  if (failures.length > 0) throw new Error('The tables of the engine were not made.', { cause: failures[0] })
}

/** The engine behind an endpoint that the sandbox sends its events to; `refused` collects what the engine throws. */
export async function startSyncEndpoint(test: TestSandbox): Promise<SyncEngine & { readonly refused: string[] }> {
  const server = createServer()
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  running.push(async () => {
    server.closeAllConnections()
    await new Promise((done) => server.close(done))
  })
  const endpoint = await test.stripe.webhookEndpoints.create({
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/stripe`,
    enabled_events: [...EVENTS],
  })
  const engine = await startSyncEngine(test, endpoint.secret)
  const refused: string[] = []
  const receive = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    try {
      await engine.sync.processWebhook(await text(request), String(request.headers['stripe-signature']))
      response.writeHead(200).end()
    } catch (error) {
      refused.push(String(error))
      response.writeHead(500).end()
    }
  }
  server.on('request', (request, response) => void receive(request, response))
  return { ...engine, refused }
}
