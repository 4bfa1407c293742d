import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { testSubscriptions } from '../../../test/subscriptions.ts'
import type { Transaction } from '../../db/database.ts'
import { ManualClock } from '../../lib/clock.ts'
import { requireGateway, type BillingContext } from '../context.ts'
import type { StripeReads } from '../gateway/gateway.ts'
import { ensureCustomer } from '../intents/customers.ts'
import { performIntent } from '../intents/intents.ts'
import { tryOrganizationLock, withOrganizationLock } from '../intents/lock.ts'
import { COMPLETE_SCOPE, RECENT_SCOPE } from '../mirror/fetch.ts'
import { syncOrganization } from '../mirror/sync.ts'
import { groupsOf, handleDueEvents } from './inbox.ts'
import { receiveWebhook } from './intake.ts'
import { BUSY, CALM } from './pacing.ts'

const clock = new ManualClock(new Date('2026-11-21T12:00:00Z'))
const billing = testSubscriptions({ webhooks: false, clock })
let price = ''
let events = 0

beforeAll(async () => {
  price = await billing.priceOf('pro')
})

/** An organization that has bought at Stripe what the mirror does not know of. */
async function buyer(id: string): Promise<string> {
  await billing.createOrganization(id)
  const customerId = await withOrganizationLock(billing.context, id, (session) => ensureCustomer(billing.context, session, id))
  const perform = (kind: 'attach_payment_method', params: { customerId: string; paymentMethodId: string }) =>
    performIntent(billing.context, billing.database.db, { organizationId: null, kind, params })
  const method = await perform('attach_payment_method', { customerId, paymentMethodId: 'pm_card_visa' })
  await performIntent(billing.context, billing.database.db, {
    organizationId: null,
    kind: 'create_subscription',
    params: {
      customerId,
      items: [{ itemId: null, priceId: price, quantity: 1 }],
      paymentMethodId: method.id,
      trialDays: null,
      trialEndBehavior: 'cancel',
      paymentBehavior: 'allow_incomplete',
      discounts: [],
      metadata: {},
    },
  })
  return customerId
}

/** A signal about a customer, whatever it is. */
async function signal(customerId: string): Promise<void> {
  events += 1
  const object = { object: 'customer', id: customerId }
  const event = { id: `evt_${events}`, object: 'event', type: 'customer.updated', created: 1, livemode: false, data: { object } }
  const payload = JSON.stringify(event)
  await receiveWebhook(billing.context, payload, billing.sign(payload))
}

async function planOf(id: string): Promise<string> {
  const { rows } = await billing.database.db.query<{ plan_key: string }>(
    'select plan_key from accounts where organization_id = $1',
    [id],
  )
  return rows[0]!.plan_key
}

async function openOf(customerId: string): Promise<number[]> {
  const { rows } = await billing.database.db.query<{ attempts: number }>(
    'select attempts from stripe_events where customer_id = $1 and handled_at is null',
    [customerId],
  )
  return rows.map(({ attempts }) => attempts)
}

function withReads(reads: Partial<StripeReads>): BillingContext {
  const gateway = requireGateway(billing.context)
  return billing.with({ gateway: { ...gateway, backgroundReads: { ...gateway.backgroundReads, ...reads } } })
}

const later = (ms: number) => clock.advance(ms)

test('groups hold everybody once, in order, begin small and end small', () => {
  fc.assert(
    fc.property(fc.nat(700), fc.integer({ min: 2, max: 32 }), (count, most) => {
      const lanes = Array.from({ length: count }, (_, index) => index)
      const groups = groupsOf(lanes, most)
      expect(groups.flat()).toEqual(lanes)
      for (const { length } of groups) expect(length >= 1 && length <= most).toBe(true)
    }),
  )
  const sizes = groupsOf(Array.from({ length: 630 }), 32).map(({ length }) => length)
  expect(sizes.slice(0, 5)).toEqual([8, 16, 24, 32, 32])
  expect(sizes.slice(-4).every((size) => size <= 8)).toBe(true)
  expect(groupsOf(['a', 'b', 'c'], 32)).toEqual([['a', 'b', 'c']])
})

test('once it is interrupted, takes nobody else up, and they stay due', async () => {
  const customers = [await buyer('first'), await buyer('second'), await buyer('third')]
  for (const customerId of customers) await signal(customerId)
  let groups = 0
  const gateway = { ...requireGateway(billing.context), callsPerSecond: 1 }
  await handleDueEvents(billing.with({ gateway }), { isInterrupted: () => (groups += 1) > 1 })
  const open = await Promise.all(customers.map(openOf))
  expect(open.filter((attempts) => attempts.length > 0)).toEqual([[0], [0]])
  await handleDueEvents(billing.context)
  expect(await Promise.all(customers.map(openOf))).toEqual([[], [], []])
})

describe('the quiet time', () => {
  test('lets events of a customer gather while they keep arriving, and handles them when it has been quiet', async () => {
    const customerId = await buyer('gathering')
    for (const wait of [40, 40, 40]) {
      await signal(customerId)
      expect(await handleDueEvents(billing.context, { quiet: CALM })).toBe(0)
      later(wait)
    }
    expect(await handleDueEvents(billing.context, { quiet: CALM })).toBe(0)
    later(10)
    expect(await handleDueEvents(billing.context, { quiet: CALM })).toBe(1)
    expect(await planOf('gathering')).toBe('pro')
    expect(await openOf(customerId)).toEqual([])
  })

  test('starves nobody: a customer whose events never end is handled every quarter of a second', async () => {
    const customerId = await buyer('endless')
    const handledAt: number[] = []
    const began = clock.now().getTime()
    for (let step = 0; step < 60; step += 1) {
      await signal(customerId)
      if ((await handleDueEvents(billing.context, { quiet: CALM })) > 0) handledAt.push(clock.now().getTime() - began)
      later(10)
    }
    expect(handledAt).toEqual([250, 510])
    expect(await planOf('endless')).toBe('pro')
  })
})

describe('in a rush', () => {
  test('a customer is refetched once for what came in two seconds, and waits no longer', async () => {
    const customerId = await buyer('rushed')
    const handledAt: number[] = []
    const began = clock.now().getTime()
    for (let step = 0; step < 45; step += 1) {
      await signal(customerId)
      if ((await handleDueEvents(billing.context, { quiet: BUSY })) > 0) handledAt.push(clock.now().getTime() - began)
      later(100)
    }
    expect(handledAt).toEqual([2_000, 4_100])
    expect(await planOf('rushed')).toBe('pro')
  })
})

test('an event that was given up stays so until it is replayed, whatever else comes of its customer', async () => {
  const customerId = await buyer('parked')
  await signal(customerId)
  await billing.database.db.query('update stripe_events set parked_at = received_at where customer_id = $1', [customerId])
  await signal(customerId)
  await handleDueEvents(billing.context)
  expect(await planOf('parked')).toBe('pro')
  expect(await openOf(customerId)).toEqual([0])
})

describe('customers that are handled together', () => {
  test('fail alone: one whose account cannot be derived is tried again later, the others are done', async () => {
    const customers = [await buyer('sound_1'), await buyer('unsound'), await buyer('sound_2')]
    for (const customerId of customers) await signal(customerId)
    const failing = billing.with({
      onAccountDerived: async (tx: Transaction, derived: { organizationId: string; now: Date }) => {
        if (derived.organizationId === 'unsound') throw new Error('cannot be derived')
        await billing.context.onAccountDerived(tx, derived)
      },
    })
    await handleDueEvents(failing)
    expect([await planOf('sound_1'), await planOf('unsound'), await planOf('sound_2')]).toEqual(['pro', 'free', 'pro'])
    expect(await Promise.all(customers.map(openOf))).toEqual([[], [1], []])
    later(1_000)
    await handleDueEvents(billing.context)
    expect([await planOf('unsound'), await openOf(customers[1]!)]).toEqual(['pro', []])
  })

  test('wait for nobody: while Stripe is slow about one, the others are done, and free to be changed', async () => {
    const [slow, quick] = [await buyer('slow'), await buyer('quick')]
    await signal(slow)
    await signal(quick)
    const answered = Promise.withResolvers<void>()
    const { backgroundReads } = requireGateway(billing.context)
    const context = withReads({
      async listSubscriptions(customerId) {
        if (customerId === slow) await answered.promise
        return backgroundReads.listSubscriptions(customerId)
      },
    })
    const handling = handleDueEvents(context)
    await expect.poll(() => planOf('quick')).toBe('pro')
    await expect.poll(() => tryOrganizationLock(billing.context, 'quick', async () => 'in')).toBe('in')
    expect(await tryOrganizationLock(billing.context, 'slow', async () => 'in')).toBeNull()
    expect(await planOf('slow')).toBe('free')
    answered.resolve()
    await handling
    expect([await planOf('slow'), await openOf(slow)]).toEqual(['pro', []])
  })

  test('are still due after a connection that is lost while they are applied: nothing of it is kept', async () => {
    const customers = [await buyer('cut_1'), await buyer('cut_2')]
    for (const customerId of customers) await signal(customerId)
    const cut = billing.with({
      onAccountDerived: async (tx: Transaction) => {
        const { rows } = await tx.query<{ pid: number }>('select pg_backend_pid() as pid')
        await billing.database.db.query('select pg_terminate_backend($1)', [rows[0]!.pid])
        await tx.query('select 1')
      },
    })
    await expect(handleDueEvents(cut)).rejects.toMatchObject({ code: 'database_unavailable' })
    const mirrored = await billing.database.db.query(
      `select 1 from stripe_subscriptions where organization_id in ('cut_1', 'cut_2')`,
    )
    expect(mirrored.rows).toEqual([])
    expect(await Promise.all(customers.map(openOf))).toEqual([[0], [0]])
    await handleDueEvents(billing.context)
    expect([await planOf('cut_1'), await planOf('cut_2')]).toEqual(['pro', 'pro'])
  })
})

test('no event has failed by a full disk, however often it is looked at: it is handled once there is room', async () => {
  const customerId = await buyer('no_room')
  await signal(customerId)
  const full = billing.with({
    onAccountDerived: async (tx: Transaction) =>
      void (await tx.query(`do $$ begin raise 'no room' using errcode = '53100'; end $$`)),
  })
  for (let look = 0; look < 3; look += 1) {
    await expect(handleDueEvents(full)).rejects.toMatchObject({ code: 'database_unavailable' })
  }
  expect(await openOf(customerId)).toEqual([0])
  await handleDueEvents(billing.context)
  expect([await planOf('no_room'), await openOf(customerId)]).toEqual(['pro', []])
})

test('an event that arrives while its customer is being read is not covered by that, and stays due', async () => {
  const customerId = await buyer('meanwhile')
  await signal(customerId)
  const { backgroundReads } = requireGateway(billing.context)
  const context = withReads({
    async listSubscriptions(id) {
      const subscriptions = await backgroundReads.listSubscriptions(id)
      await signal(customerId)
      return subscriptions
    },
  })
  await handleDueEvents(context)
  expect(await openOf(customerId)).toEqual([0])
  await handleDueEvents(billing.context)
  expect(await openOf(customerId)).toEqual([])
})

describe('a refetch', () => {
  const sync = (id: string, scope: typeof COMPLETE_SCOPE) =>
    withOrganizationLock(billing.context, id, (session) =>
      syncOrganization(billing.context, session, id, { scope, priority: 'interactive' }),
    )
  const versions = async (id: string) =>
    (
      await billing.database.db.query<{ version: string }>(
        `select xmin::text as version from stripe_customers where organization_id = $1
         union all select xmin::text from stripe_subscriptions where organization_id = $1
         union all select xmin::text from stripe_invoices where organization_id = $1
         union all select xmin::text from stripe_charges where organization_id = $1
         union all select xmin::text from stripe_payment_methods where organization_id = $1`,
        [id],
      )
    ).rows.map(({ version }) => version)

  test('that brings what is known writes no row and derives nothing, but says how fresh the mirror is', async () => {
    await buyer('known')
    await sync('known', RECENT_SCOPE)
    const before = await versions('known')
    expect(before.length).toBeGreaterThanOrEqual(5)
    later(60_000)
    let derived = 0
    const counting = billing.with({ onAccountDerived: async () => void (derived += 1) })
    await withOrganizationLock(counting, 'known', (session) =>
      syncOrganization(counting, session, 'known', { scope: RECENT_SCOPE, priority: 'interactive' }),
    )
    expect([await versions('known'), derived]).toEqual([before, 0])
    const { rows } = await billing.database.db.query('select synced_at from stripe_syncs where organization_id = $1', ['known'])
    expect(rows).toEqual([{ synced_at: clock.now() }])
  })

  test('of everything trusts no digest: a row that somebody has changed by hand is repaired', async () => {
    await buyer('by_hand')
    await sync('by_hand', RECENT_SCOPE)
    await billing.database.db.query(`update stripe_subscriptions set status = 'canceled' where organization_id = 'by_hand'`)
    await sync('by_hand', COMPLETE_SCOPE)
    const { rows } = await billing.database.db.query(`select status from stripe_subscriptions where organization_id = 'by_hand'`)
    expect(rows).toEqual([{ status: 'active' }])
  })
})
