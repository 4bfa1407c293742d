import { expect, it, describe } from 'vitest'
import { startTestSandbox, type TestSandbox } from '../../sandbox/test/contract.ts'
import { runBusiness } from './business.ts'
import { differences, type Table } from './rows.ts'
import { startSyncEndpoint, startSyncEngine, type SyncEngine } from './sync-engine.ts'

/** What a backfill of everything fills. */
const BACKFILLED = [
  'products',
  'prices',
  'plans',
  'customers',
  'subscriptions',
  'subscription_items',
  'subscription_schedules',
  'invoices',
  'charges',
  'setup_intents',
  'payment_methods',
  'payment_intents',
  'tax_ids',
  'credit_notes',
  'disputes',
  'refunds',
  'checkout_sessions',
  'checkout_session_line_items',
] as const

describe('@supabase/stripe-sync-engine', () => {
  it('backfills the rows that the sandbox holds', async () => {
    const test = await start()
    await runBusiness(test)
    const engine = await startSyncEngine(test)
    await engine.sync.syncBackfill({ object: 'all' })
    await engine.sync.syncFeatures()
    for (const { id } of test.sandbox.all('customer')) await engine.sync.syncEntitlements(id)
    expect(await allDifferences({ test, engine }, [...BACKFILLED, 'features', 'active_entitlements'], isListed)).toEqual([])
  })

  it('ends with the same rows by webhooks alone', async () => {
    const test = await start()
    const engine = await startSyncEndpoint(test)
    await runBusiness(test)
    expect(engine.refused).toEqual([])
    const tables = [...BACKFILLED, 'active_entitlements', 'invoice_payments'] as const
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
