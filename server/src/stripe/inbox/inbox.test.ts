import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { testSubscriptions } from '../../../test/subscriptions.ts'
import { ManualClock } from '../../lib/clock.ts'
import { requireGateway } from '../context.ts'
import type { MutationKind, StripeMutations } from '../gateway/mutations.ts'
import { ensureCustomer } from '../intents/customers.ts'
import { performIntent } from '../intents/intents.ts'
import { tryOrganizationLock, withOrganizationLock } from '../intents/lock.ts'
import { COMPLETE_SCOPE } from '../mirror/fetch.ts'
import { syncOrganization } from '../mirror/sync.ts'
import { readPayload } from './inbox-store.ts'
import { handleDueEvents, replayEvent, retryDelayMs } from './inbox.ts'
import { receiveWebhook } from './intake.ts'

const billing = testSubscriptions({ webhooks: false })
const prices = new Map<string, string>()

beforeAll(async () => {
  const { rows } = await billing.database.db.query<{ plan_key: string; stripe_price_id: string }>(
    'select plan_key, stripe_price_id from plan_prices',
  )
  for (const row of rows) prices.set(row.plan_key, row.stripe_price_id)
})

/** A call to Stripe that Tollgate's mirror does not hear of: somebody uses Stripe's own dashboard. */
function atStripe<Kind extends MutationKind>(kind: Kind, params: StripeMutations[Kind]) {
  return performIntent(billing.context, billing.database.db, { organizationId: null, kind, params })
}

async function newCustomer(id: string, paymentMethodId = 'pm_card_visa'): Promise<string> {
  await billing.createOrganization(id)
  const customerId = await withOrganizationLock(billing.context, id, (session) => ensureCustomer(billing.context, session, id))
  const attached = await atStripe('attach_payment_method', { customerId, paymentMethodId })
  await atStripe('update_customer', { customerId, defaultPaymentMethodId: attached.id })
  return customerId
}

function subscribeTo(planKey: string, customerId: string) {
  return atStripe('create_subscription', {
    customerId,
    items: [{ itemId: null, priceId: prices.get(planKey)!, quantity: 1 }],
    paymentMethodId: null,
    trialDays: null,
    trialEndBehavior: 'cancel',
    paymentBehavior: 'allow_incomplete',
    discounts: [],
    metadata: {},
  })
}

type Delivery = { readonly id: string; readonly payload: string }

/** What Stripe has to tell of a customer, oldest first. */
async function eventsOf(customerId: string): Promise<Delivery[]> {
  const { reads } = requireGateway(billing.context)
  const found: Delivery[] = []
  let startingAfter: string | null = null
  for (;;) {
    const page = await reads.listEvents({ since: new Date(0), startingAfter })
    const own = page.events.filter(({ envelope }) => envelope.customerId === customerId)
    found.push(...own.map(({ envelope, payload }) => ({ id: envelope.id, payload })))
    startingAfter = page.events.at(-1)?.envelope.id ?? null
    if (!page.hasMore || startingAfter === null) return found.toReversed()
  }
}

const deliver = ({ payload }: Delivery) => receiveWebhook(billing.context, payload, billing.sign(payload))

async function accountOf(id: string) {
  const { rows } = await billing.database.db.query<Record<string, unknown>>(
    `select plan_key, subscription_id, subscription_status, current_period_start, current_period_end, cancel_at,
       payment_failed_at, stripe_price_id, payment_method_id, next_invoice_at from accounts where organization_id = $1`,
    [id],
  )
  return rows[0]
}

async function forget(id: string): Promise<void> {
  for (const table of [
    'billing_events',
    'stripe_subscriptions',
    'stripe_invoices',
    'stripe_payment_methods',
    'stripe_charges',
    'grants',
    'accounts',
  ]) {
    await billing.database.db.query(`delete from ${table} where organization_id = $1`, [id])
  }
  await billing.database.db.query('delete from stripe_events')
}

const synced = (id: string) =>
  withOrganizationLock(billing.context, id, (session) =>
    syncOrganization(billing.context, session, id, { scope: COMPLETE_SCOPE, priority: 'interactive' }),
  )

async function drain(): Promise<void> {
  while ((await handleDueEvents(billing.context)) > 0);
}

/** Against standing still, not a measure: a busy machine takes tens of times as long as an idle one. */
const PATIENCE_MS = 300_000

describe('a webhook', () => {
  test('MR-14 with a bad signature is refused and leaves nothing', async () => {
    const payload = JSON.stringify({
      id: 'evt_forged',
      object: 'event',
      type: 'invoice.paid',
      created: 1,
      livemode: false,
      data: { object: {} },
    })
    for (const signature of [undefined, 'nonsense', billing.sign(payload, 'whsec_other'), billing.sign(`${payload} `)]) {
      await expect(receiveWebhook(billing.context, payload, signature)).rejects.toMatchObject({ code: 'invalid_signature' })
    }
    const answer = await billing.call('nobody', 'POST', '/api/v1/billing/webhook', { id: 'evt_forged' })
    expect(answer).toMatchObject({ status: 400, body: { detail: 'invalid signature' } })
    const { rows } = await billing.database.db.query(`select 1 from stripe_events where event_id = 'evt_forged'`)
    expect(rows).toEqual([])
    // A wrong secret is seen in the log: once a minute, however many are refused.
    const refusals = () => billing.logged.filter(({ fields }) => fields['event'] === 'stripe.webhook_refused')
    expect(refusals()).toMatchObject([{ level: 'warn', fields: { refused: 1 } }])
    const later = new ManualClock(new Date(billing.context.clock.now().getTime() + 60_000))
    await expect(receiveWebhook({ ...billing.context, clock: later }, payload, 'nonsense')).rejects.toThrow('invalid signature')
    expect(refusals()).toMatchObject([{ fields: { refused: 1 } }, { fields: { refused: 3 } }])
  })

  test('whose ids or time could not be stored is no event, though it is signed', async () => {
    const object = { id: 'cus_x', object: 'customer' }
    const event = { id: 'evt_odd', object: 'event', type: 'customer.updated', created: 1, livemode: false, data: { object } }
    const long = Array.from({ length: 4_000 }, (_, index) => index.toString(36)).join('')
    for (const odd of [{ id: 'evt_\0' }, { id: long }, { type: 'a\0' }, { created: Number.MAX_SAFE_INTEGER }, { created: -1 }]) {
      const payload = JSON.stringify({ ...event, ...odd })
      await expect(receiveWebhook(billing.context, payload, billing.sign(payload))).rejects.toThrow('not an event of Stripe')
    }
  })

  test('MR-14 without a Stripe key is answered billing_not_configured', async () => {
    await expect(receiveWebhook(billing.with({ gateway: null }), '{}', 't=1,v1=x')).rejects.toMatchObject({
      code: 'billing_not_configured',
    })
  })

  test('MR-11 is stored once with its bytes as they came, however often and by whatever path it comes', async () => {
    const customerId = await newCustomer('once')
    const [event] = await eventsOf(customerId)
    expect(await deliver(event!)).toBe(true)
    expect(await deliver(event!)).toBe(false)
    expect(String(await readPayload(billing.database.db, event!.id))).toBe(event!.payload)
  })

  test.each([
    '/api/v1/billing/webhook',
    '/api/v1/billing/webhooks',
    '/api/v1/webhooks/stripe',
    '/api/billing/webhook',
    '/api/webhooks/stripe',
  ])('MR-3, CB-8, KF-11, EM-6 is taken at %s, by its signature alone', async (path) => {
    const payload = JSON.stringify({
      id: `evt_at${path.replaceAll('/', '_')}`,
      object: 'event',
      type: 'customer.updated',
      created: 1_700_000_000,
      livemode: false,
      data: { object: { object: 'customer', id: 'cus_unknown' } },
    })
    const headers = { 'stripe-signature': billing.sign(payload) }
    const answer = await billing.call('nobody', 'POST', path, JSON.parse(payload), headers)
    expect(answer).toMatchObject({ status: 200, body: { received: true } })
    const { id } = JSON.parse(payload) as { id: string }
    expect(String(await readPayload(billing.database.db, id))).toBe(payload)
  })

  test('signed with the old secret is taken while the secret is rolled', async () => {
    const customerId = await newCustomer('rolling')
    const [event] = await eventsOf(customerId)
    const rolling = billing.with({ policy: { ...billing.context.policy, webhookSecrets: ['whsec_new', 'whsec_test'] } })
    expect(await receiveWebhook(rolling, event!.payload, billing.sign(event!.payload))).toBe(true)
  })
})

describe('the events of a subscription', () => {
  test(
    'end in the same account in every order, each of them twice',
    async () => {
      const customerId = await newCustomer('orders')
      await subscribeTo('pro', customerId)
      const all = await eventsOf(customerId)
      await synced('orders')
      const expected = await accountOf('orders')
      expect(expected).toMatchObject({ plan_key: 'pro', subscription_status: 'active' })
      const chosen = ['customer.updated', 'invoice.paid', 'customer.subscription.created', 'charge.succeeded'].map((type) =>
        all.find(({ payload }) => (JSON.parse(payload) as { type: string }).type === type)!,
      )
      for (const order of permutationsOf(chosen)) {
        await forget('orders')
        for (const event of [...order, ...order.toReversed()]) {
          await deliver(event)
          await handleDueEvents(billing.context)
        }
        expect(await accountOf('orders')).toEqual(expected)
      }
    },
    PATIENCE_MS,
  )

  test(
    'any one of them alone is enough, when all others are lost',
    async () => {
      const customerId = await newCustomer('alone')
      await subscribeTo('starter', customerId)
      const all = await eventsOf(customerId)
      await forget('alone')
      await synced('alone')
      const expected = await accountOf('alone')
      // Only the default payment method is not looked up by events that have nothing to do with one.
      const withoutMethod = { ...expected, payment_method_id: expect.anything() as unknown }
      for (const event of all) {
        await forget('alone')
        await deliver(event)
        await drain()
        expect(await accountOf('alone'), event.payload).toEqual(withoutMethod)
      }
    },
    PATIENCE_MS,
  )

  test(
    'doubled, shuffled and lost along a whole life, the account follows what is true at Stripe',
    async () => {
      let run = 0
      await fc.assert(
        fc.asyncProperty(fc.array(fc.array(fc.nat(), { maxLength: 6 }), { minLength: 4, maxLength: 4 }), async (choices) => {
          run += 1
          const id = `life_${run}`
          const customerId = await newCustomer(id)
          let subscriptionId = ''
          const steps = [
            async () => {
              subscriptionId = (await subscribeTo('starter', customerId)).id
            },
            () => atStripe('update_subscription', { subscriptionId, cancelAtPeriodEnd: true }),
            () => atStripe('update_subscription', { subscriptionId, cancelAtPeriodEnd: false }),
            () => atStripe('cancel_subscription', { subscriptionId, prorate: false, invoiceNow: false }),
          ]
          for (const [index, step] of steps.entries()) {
            const before = (await eventsOf(customerId)).length
            await step()
            const known = await eventsOf(customerId)
            const news = known.slice(before)
            // What arrives now: some of all that was ever sent, in any order, old ones again, and of the news at least one.
            const picked = choices[index]!.map((choice) => known[choice % known.length]!)
            for (const event of [...picked, news[choices[index]!.length % news.length]!, ...picked]) await deliver(event)
            await drain()
            const heard = await accountOf(id)
            await synced(id)
            expect(heard).toMatchObject({ ...(await accountOf(id)), payment_method_id: heard!['payment_method_id'] })
          }
          expect(await accountOf(id)).toMatchObject({ plan_key: 'free', subscription_status: 'canceled' })
        }),
        { numRuns: 12 },
      )
    },
    PATIENCE_MS,
  )
})

describe('the worker', () => {
  test('handles a burst of one purchase with one refetch', async () => {
    const customerId = await newCustomer('burst')
    await subscribeTo('pro', customerId)
    const all = await eventsOf(customerId)
    for (const event of all) await deliver(event)
    let lists = 0
    const gateway = requireGateway(billing.context)
    const counting = {
      ...gateway,
      backgroundReads: {
        ...gateway.backgroundReads,
        listSubscriptions: (customer: string) => {
          lists += 1
          return gateway.backgroundReads.listSubscriptions(customer)
        },
        listInvoices: () => Promise.reject(new Error('The invoice of a purchase comes with its subscription.')),
      },
    }
    await handleDueEvents(billing.with({ gateway: counting }))
    expect(lists).toBe(1)
    expect(await accountOf('burst')).toMatchObject({ plan_key: 'pro' })
    const { rows } = await billing.database.db.query(
      `select count(*)::int as open from stripe_events where customer_id = $1 and handled_at is null`,
      [customerId],
    )
    expect(rows).toEqual([{ open: 0 }])
  })

  test('leaves alone what belongs to nobody here, and what says nothing of a customer', async () => {
    const { id } = await atStripe('create_customer', {
      email: 'someone@example.com',
      name: 'Someone',
      testClockId: null,
      metadata: {},
    })
    for (const event of await eventsOf(id)) await deliver(event)
    await drain()
    const { rows } = await billing.database.db.query(
      `select distinct outcome, organization_id from stripe_events where customer_id = $1`,
      [id],
    )
    expect(rows).toEqual([{ outcome: 'ignored', organization_id: null }])
  })

  test('finds the organization of a customer whose creation was not lived to be recorded', async () => {
    const customerId = await newCustomer('amnesia')
    await billing.database.db.query('update organizations set stripe_customer_id = null where id = $1', ['amnesia'])
    await subscribeTo('pro', customerId)
    for (const event of await eventsOf(customerId)) await deliver(event)
    await drain()
    expect(await accountOf('amnesia')).toMatchObject({ plan_key: 'pro' })
  })

  test('waits while somebody else holds the organization, without counting that as a failure', async () => {
    const customerId = await newCustomer('held')
    for (const event of await eventsOf(customerId)) await deliver(event)
    await withOrganizationLock(billing.context, 'held', async () => {
      await handleDueEvents(billing.context)
      expect(await tryOrganizationLock(billing.context, 'held', async () => 'in')).toBeNull()
    })
    const { rows } = await billing.database.db.query<{ attempts: number; handled: boolean }>(
      `select attempts, handled_at is not null as handled from stripe_events where customer_id = $1`,
      [customerId],
    )
    expect(rows.every(({ attempts, handled }) => attempts === 0 && !handled)).toBe(true)
  })

  test('keeps what fails, visible, to be tried again later, and handles it when Stripe is back', async () => {
    const customerId = await newCustomer('outage')
    const [event] = await eventsOf(customerId)
    await billing.database.db.query('delete from stripe_events')
    await deliver(event!)
    billing.sandbox.setChaos({ api: [{ route: '*', serverError: 1 }] })
    await handleDueEvents(billing.context)
    billing.sandbox.setChaos({})
    const failed = await billing.database.db.query(
      `select attempts, last_error, handled_at, parked_at from stripe_events where event_id = $1`,
      [event!.id],
    )
    expect(failed.rows).toEqual([
      { attempts: 1, last_error: expect.stringContaining('stripe_failed') as string, handled_at: null, parked_at: null },
    ])
    await replayEvent(billing.context, event!.id)
    await drain()
    const handled = await billing.database.db.query(`select outcome, last_error from stripe_events where event_id = $1`, [
      event!.id,
    ])
    expect(handled.rows).toEqual([{ outcome: 'applied', last_error: null }])
  })

  test('waits longer each time, ten minutes at most', () => {
    expect([0, 1, 2, 5, 20].map(retryDelayMs)).toEqual([1_000, 2_000, 4_000, 32_000, 600_000])
  })

  test('an event that is replayed and unknown is not found', async () => {
    await expect(replayEvent(billing.context, 'evt_nowhere')).rejects.toMatchObject({ code: 'not_found' })
  })
})

function permutationsOf<Item>(items: readonly Item[]): Item[][] {
  if (items.length <= 1) return [[...items]]
  return items.flatMap((item, index) => permutationsOf(items.toSpliced(index, 1)).map((rest) => [item, ...rest]))
}
