import { expect, it, describe } from 'vitest'
import { startTestSandbox, type TestSandbox } from '../../sandbox/test/contract.ts'
import { runBusiness } from './business.ts'
import { differences, type Table } from './rows.ts'
import { startSyncEndpoint, startSyncEngine, type SyncEngine } from './sync-engine.ts'

/** What the engine asks for in a backfill, in its order, and what it fills with the answers. */
const BACKFILL = {
  product: ['products'],
  price: ['prices'],
  customer: ['customers'],
  subscription: ['subscriptions', 'subscription_items'],
  subscription_schedules: ['subscription_schedules'],
  invoice: ['invoices'],
  charge: ['charges'],
  setup_intent: ['setup_intents'],
  payment_method: ['payment_methods'],
  payment_intent: ['payment_intents'],
  tax_id: ['tax_ids'],
  credit_note: ['credit_notes'],
  dispute: ['disputes'],
  refund: ['refunds'],
  checkout_sessions: ['checkout_sessions', 'checkout_session_line_items'],
} as const

const backfilled: Table[] = Object.values(BACKFILL).flat()

describe('@supabase/stripe-sync-engine', { timeout: 60_000 }, () => {
  it('backfills the rows that the sandbox holds', async () => {
    const test = await start()
    await runBusiness(test)
    const engine = await startSyncEngine(test)
    for (const object of Object.keys(BACKFILL) as Array<keyof typeof BACKFILL>) await engine.sync.syncBackfill({ object })
    await engine.sync.syncFeatures()
    for (const { id } of test.sandbox.all('customer')) await engine.sync.syncEntitlements(id)
    expect(await allDifferences({ test, engine }, [...backfilled, 'features', 'active_entitlements'], isListed)).toEqual([])
  })

  it('ends with the same rows by webhooks alone', async () => {
    const test = await start()
    const engine = await startSyncEndpoint(test)
    await runBusiness(test)
    expect(engine.refused).toEqual([])
    const tables = [...backfilled, 'active_entitlements', 'invoice_payments'] as const
    expect(await allDifferences({ test, engine }, tables, isTold(test))).toEqual([])
    const removed = await engine.sync.postgresClient.query(
      'select (select count(*)::int from stripe.customers where deleted) as customers, (select count(*)::int from stripe.subscription_items where deleted) as items',
    )
    expect(removed.rows).toEqual([{ customers: 1, items: 1 }])
  })
})

/** The clock stands shortly after the real one: the engine compares the times of events with it. */
function start(): Promise<TestSandbox> {
  return startTestSandbox({ clock: { frozen: Math.floor(Date.now() / 1000) + 3600 } })
}

async function allDifferences(
  both: { test: TestSandbox; engine: SyncEngine },
  tables: readonly Table[],
  only?: (object: Readonly<Record<string, unknown>>) => boolean,
): Promise<string[]> {
  const found: string[] = []
  for (const table of tables) found.push(...(await differences(both, table, only)))
  return found
}

/** What a list without a customer shows, as on Stripe: the account's own tax ids, and of payment methods what a customer has. */
function isListed(object: Readonly<Record<string, unknown>>): boolean {
  if (object['object'] === 'tax_id') return object['customer'] === null
  if (object['object'] === 'payment_method') return object['customer'] !== null
  return true
}

/** What there is an event for: a payment method when it is attached, a payment of an invoice when it is made. */
function isTold(test: TestSandbox): (object: Readonly<Record<string, unknown>>) => boolean {
  const attached = new Set(
    test.events().flatMap(({ type, data }) => (type === 'payment_method.attached' ? [data.object.id] : [])),
  )
  return (object) => {
    if (object['object'] === 'payment_method') return attached.has(String(object['id']))
    if (object['object'] === 'invoice_payment') return object['status'] === 'paid'
    return true
  }
}
