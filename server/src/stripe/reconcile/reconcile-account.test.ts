import { beforeAll, describe, expect, test } from 'vitest'
import { buyPro } from '../../../test/purchases.ts'
import { multiply } from '../../../test/seed-account.ts'
import { testSubscriptions } from '../../../test/subscriptions.ts'
import type { Transaction } from '../../db/database.ts'
import { DAY_MS, HOUR_MS } from '../../lib/period.ts'
import { requireGateway, type BillingContext } from '../context.ts'
import type { AccountList } from '../gateway/account-lists.ts'
import { createStripeClient } from '../gateway/client.ts'
import { StripeCallError } from '../gateway/errors.ts'
import type { StripeReads } from '../gateway/gateway.ts'
import { beginReconciliation } from './reconcile-account.ts'
import { reconcileSome } from './reconcile.ts'

// Objects are an hour old when they are compared: what is younger than ten minutes is left to its webhooks.
const start = Math.floor(Date.UTC(2026, 2, 10, 12) / 1000)
let now = new Date(start * 1000)
const clock = { now: () => now }
const billing = testSubscriptions({ webhooks: false, clock, sandbox: { clock: { frozen: start } } })
const COPIES = 250

beforeAll(async () => {
  await billing.createOrganization('template')
  await buyPro(billing.context, { organizationId: 'template' })
  const [{ id: customerId } = { id: '' }] = billing.sandbox.all('customer')
  const { sandbox, database } = billing
  await multiply({ db: database.db, sandbox, template: { organizationId: 'template', customerId }, copies: COPIES })
  now = new Date(now.getTime() + HOUR_MS)
})

const rowsOf = async <Row extends object>(statement: string, values: unknown[] = []) =>
  (await billing.database.db.query<Row>(statement, values)).rows

/** The gateway, with every read written down. */
function recording(context: BillingContext, onPage: (list: AccountList, page: number) => void = () => undefined) {
  const calls: string[] = []
  const gateway = requireGateway(context)
  let pages = 0
  const backgroundReads = new Proxy(gateway.backgroundReads, {
    get(reads, name: keyof StripeReads) {
      const read = reads[name] as (...args: readonly unknown[]) => Promise<unknown>
      return (...args: readonly unknown[]) => {
        if (name === 'listPage') onPage(args[0] as AccountList, (pages += 1))
        calls.push(name === 'listPage' ? nameOf(args as Parameters<StripeReads['listPage']>) : name)
        return read(...args)
      }
    },
  })
  return { calls, context: { ...context, gateway: { ...gateway, backgroundReads } } }
}

function nameOf([list, { startingAfter }]: Parameters<StripeReads['listPage']>): string {
  return `${list} after ${startingAfter ?? 'nothing'}`
}

async function compareAll(context: BillingContext): Promise<void> {
  while ((await reconcileSome(context)) > 0);
}

const openRun = () =>
  rowsOf<{ list: string; pages: bigint }>('select list, pages from stripe_reconciliations where finished_at is null')
const nextDay = () => {
  now = new Date(now.getTime() + DAY_MS)
}

describe('the comparison of everything', () => {
  test('reads pages of a hundred, and refetches nobody who agrees', async () => {
    const { calls, context } = recording(billing.context)
    await compareAll(context)
    // 251 customers, subscriptions, invoices and charges; no refund and no dispute; unsettled invoices are among all of them the first time.
    expect(calls.map((call) => call.split(' ')[0])).toEqual([
      ...Array(3).fill('subscriptions'),
      ...Array(3).fill('invoices'),
      ...Array(3).fill('charges'),
      'refunds',
      'disputes',
      ...Array(3).fill('customers'),
    ])
    const [compared] = await rowsOf('select count(*)::int as count from stripe_syncs where reconciled_at = $1', [now])
    expect(compared).toEqual({ count: COPIES + 1 })
    expect(await rowsOf('select * from stripe_drifts')).toEqual([])
  })

  test('comes once a day', async () => {
    expect(await reconcileSome(billing.context)).toBe(0)
    nextDay()
    expect(await reconcileSome(billing.context)).toBeGreaterThan(0)
    await compareAll(billing.context)
    expect(await reconcileSome(billing.context)).toBe(0)
  })

  test('refetches those who differ, and only those, whatever it is that no webhook told of', async () => {
    nextDay()
    const { db } = billing.database
    await cancelAtStripe('template_7')
    await db.query(`update stripe_charges set data = data || '{"amount_refunded": 5}' where organization_id = 'template_8'`)
    await db.query(`delete from stripe_subscriptions where organization_id = 'template_9'`)
    await billing.stripe.customers.del(await customerOf('template_10'))
    await db.query(
      `insert into stripe_invoices select (jsonb_populate_record(null::stripe_invoices, to_jsonb(i) || '{"id": "in_gone", "status": "draft"}')).*
       from stripe_invoices i where organization_id = 'template_11'`,
    )
    await db.query(`update organizations set stripe_customer_id = null where id = 'template_12'`)
    const { calls, context } = recording(billing.context)
    await compareAll(context)
    expect(calls.filter((call) => call === 'retrieveCustomer')).toHaveLength(6)
    expect(await rowsOf(`select distinct organization_id, object_type, field from stripe_drifts order by 1, 2, 3`)).toEqual([
      { organization_id: 'template_10', object_type: 'customer', field: 'deleted' },
      { organization_id: 'template_11', object_type: 'invoice', field: '*' },
      { organization_id: 'template_7', object_type: 'subscription', field: 'ended_at' },
      { organization_id: 'template_7', object_type: 'subscription', field: 'status' },
      { organization_id: 'template_8', object_type: 'charge', field: 'amount_refunded' },
      { organization_id: 'template_9', object_type: 'subscription', field: '*' },
    ])
    expect(
      await rowsOf(
        `select id, stripe_customer_id is null as unlinked from organizations where id in ('template_10', 'template_12') order by id`,
      ),
    ).toEqual([
      { id: 'template_10', unlinked: true },
      { id: 'template_12', unlinked: false },
    ])
    const [plan] = await rowsOf(`select plan_key from accounts where organization_id = 'template_7'`)
    expect(plan).toEqual({ plan_key: 'free' })
    await beginReconciliation(db, now)
    const again = recording(billing.context)
    await compareAll(again.context)
    expect(again.calls.filter((call) => !call.includes(' after '))).toEqual([])
  })

  test('puts off an organization that Stripe refuses to tell of, and goes on with the others', async () => {
    const suspects = ['template_20', 'template_21']
    await billing.database.db.query('update stripe_syncs set suspected_at = $2 where organization_id = any($1)', [suspects, now])
    const refusing = await customerOf('template_20')
    const gateway = requireGateway(billing.context)
    const backgroundReads = new Proxy(gateway.backgroundReads, {
      get: (reads, name: keyof StripeReads) =>
        name === 'listSubscriptions'
          ? (customerId: string) =>
              customerId === refusing
                ? Promise.reject(new StripeCallError('stripe_failed', 'Stripe refused this request.', 'refused'))
                : reads.listSubscriptions(customerId)
          : reads[name],
    })
    expect(await reconcileSome(billing.with({ gateway: { ...gateway, backgroundReads } }))).toBe(1)
    const rows = await rowsOf<{ id: string; at: Date | null }>(
      'select organization_id as id, suspected_at as at from stripe_syncs where organization_id = any($1) order by 1',
      [suspects],
    )
    expect(rows).toEqual([
      { id: 'template_20', at: new Date(now.getTime() + HOUR_MS) },
      { id: 'template_21', at: null },
    ])
    await billing.database.db.query('update stripe_syncs set suspected_at = null')
  })

  test('goes on after a crash where it had come to: no page is compared twice', async () => {
    nextDay()
    const crashed = recording(billing.context, (_list, page) => {
      if (page === 5) throw new Error('the process was killed')
    })
    await expect(compareAll(crashed.context)).rejects.toThrow('the process was killed')
    expect(await openRun()).toEqual([{ list: 'invoices', pages: 4n }])
    const resumed = recording(billing.context)
    await compareAll(resumed.context)
    const read = [...crashed.calls, ...resumed.calls]
    expect(new Set(read).size).toBe(read.length)
    expect(await openRun()).toEqual([])
  })

  test('goes on when the object after which it was to go on has been deleted', async () => {
    nextDay()
    const stopped = recording(billing.context, (list, page) => {
      if (list === 'customers' && page > 9) throw new Error('stopped')
    })
    await expect(compareAll(stopped.context)).rejects.toThrow('stopped')
    await billing.database.db.query(
      `update stripe_reconciliations set list = 'customers', after_id = 'cus_deleted', after_created_at = $1 where finished_at is null`,
      [new Date(start * 1000)],
    )
    await compareAll(billing.context)
    expect(await openRun()).toEqual([])
    expect(await rowsOf('select * from stripe_syncs where suspected_at is not null')).toEqual([])
  })

  test('is done by one server at a time', async () => {
    nextDay()
    const both = [recording(billing.context), recording(billing.context)]
    await Promise.all(both.map(({ context }) => reconcileSome(context)))
    await compareAll(billing.context)
    const read = both.flatMap(({ calls }) => calls)
    expect(new Set(read).size).toBe(read.length)
  })

  test('lists again what can still change: invoices of five weeks, and those that are not settled at any age', async () => {
    now = new Date(now.getTime() + 60 * DAY_MS)
    await compareAll(billing.context)
    now = new Date(now.getTime() + 60 * DAY_MS)
    const { calls, context } = recording(billing.context)
    await compareAll(context)
    const count = (list: AccountList) => calls.filter((call) => call.startsWith(`${list} `)).length
    expect([count('invoices'), count('charges'), count('open_invoices'), count('subscriptions')]).toEqual([1, 1, 1, 3])
  })

  test('goes on past an organization that cannot be compared, and comes back to it in an hour', async () => {
    await billing.database.db.query(
      `update stripe_syncs set suspected_at = $1 where organization_id in ('template_1', 'template_2')`,
      [now],
    )
    const failing = {
      ...billing.context,
      onAccountDerived: async (tx: Transaction, derived: { organizationId: string; now: Date }) => {
        if (derived.organizationId === 'template_1') throw new Error('cannot be derived')
        await billing.context.onAccountDerived(tx, derived)
      },
    }
    await compareAll(failing)
    expect(await rowsOf('select organization_id, suspected_at from stripe_syncs where suspected_at is not null')).toEqual([
      { organization_id: 'template_1', suspected_at: new Date(now.getTime() + HOUR_MS) },
    ])
    expect(billing.logged.some(({ fields }) => fields['event'] === 'stripe.reconcile_failed')).toBe(true)
    now = new Date(now.getTime() + HOUR_MS)
    await compareAll(billing.context)
    expect(await rowsOf('select * from stripe_syncs where suspected_at is not null')).toEqual([])
  })

  test('is shown and begun by operators', async () => {
    nextDay()
    const begun = await billing.call('operator', 'POST', '/api/v1/admin/reconciliation')
    expect([begun.status, begun.body['run']]).toEqual([
      202,
      expect.objectContaining({ list: 'subscriptions', finished_at: null }),
    ])
    await compareAll(billing.context)
    const { body } = await billing.call('operator', 'GET', '/api/v1/admin/reconciliation')
    expect(body).toMatchObject({ due: 0, run: { started_at: now.toISOString(), finished_at: now.toISOString(), suspected: 0 } })
  })

  test('keeps within Stripe’s limits of a sandbox account, 25 calls a second and of an endpoint', async () => {
    nextDay()
    await billing.database.db.query(
      `update stripe_syncs set suspected_at = $1 where organization_id = any(array(select 'template_' || n from generate_series(20, 29) n))`,
      [now],
    )
    billing.sandbox.setRateLimits({ perSecond: 25, perEndpoint: 25 })
    try {
      const { host, port, protocol } = billing.sandbox
      const gateway = createStripeClient({
        apiKey: 'sk_test_limited',
        endpoint: { host, port, protocol },
        log: billing.context.log,
      })
      const { calls, context } = recording(billing.with({ gateway }))
      const logged = billing.logged.length
      await compareAll(context)
      expect(calls.length).toBeGreaterThan(60)
      expect(billing.logged.slice(logged)).toEqual([])
    } finally {
      billing.sandbox.setRateLimits({})
    }
  })
})

async function customerOf(organizationId: string): Promise<string> {
  const [row] = await rowsOf<{ id: string }>('select stripe_customer_id as id from organizations where id = $1', [organizationId])
  return row!.id
}

/** In Stripe's own dashboard, of which no webhook arrives. */
async function cancelAtStripe(organizationId: string): Promise<void> {
  const [row] = await rowsOf<{ id: string }>('select id from stripe_subscriptions where organization_id = $1', [organizationId])
  await billing.stripe.subscriptions.cancel(row!.id)
}
