import { expect, test } from 'vitest'
import { failing } from '../../../test/failing.ts'
import { changeByOperator, switchTo } from '../../../test/purchases.ts'
import { OFFERED, testSubscriptions } from '../../../test/subscriptions.ts'
import { HOUR_MS, MINUTE_MS } from '../../lib/period.ts'
import { requireGateway, type BillingContext } from '../context.ts'
import { StripeCallError } from '../gateway/errors.ts'
import type { StripeReads } from '../gateway/gateway.ts'
import { finishStrandedIntents } from './finish-intents.ts'

const billing = testSubscriptions({ catalog: OFFERED, webhooks: false })
const { later, post } = billing

const GARBAGE = new StripeCallError('stripe_unavailable', 'no JSON', 'unanswered')

async function subscribed(id: string, tier = 'pro'): Promise<string> {
  await billing.createOrganization(id)
  expect(await post(id, 'subscribe', { plan: tier, payment_method_id: 'pm_card_visa' })).toMatchObject({ status: 200 })
  return id
}

/** Who leaves beside a scheduled change: its schedule has to go afterwards, and Stripe never does it. */
async function leavingInVain(id: string): Promise<void> {
  await subscribed(id, 'max')
  await changeByOperator(billing.context, id, switchTo('pro', 'period_end'))
  const leaving = changeByOperator(failing(billing.context, 'before', 'release_schedule', GARBAGE), id, {
    kind: 'cancel',
    immediate: false,
  })
  await expect(leaving).rejects.toBe(GARBAGE)
}

/** As the housekeeping does it, every two minutes from one time until another. */
async function housekept(context: BillingContext, { from, until }: { from: number; until: number }): Promise<void> {
  for (let at = from; at <= until; at += 2 * MINUTE_MS) {
    await finishStrandedIntents({ ...context, clock: later(at).clock }).catch(() => undefined)
  }
}

/** Reads that fail as often as `isAnswered` says no. */
function reading(context: BillingContext, read: 'retrieveSchedule' | 'listCharges', isAnswered: () => boolean): BillingContext {
  const gateway = requireGateway(context)
  const failingReads = (reads: StripeReads): StripeReads => ({
    ...reads,
    [read]: (...args: [never, never]) =>
      isAnswered() ? (reads[read] as (...all: unknown[]) => unknown)(...args) : Promise.reject(GARBAGE),
  })
  const { reads, backgroundReads } = gateway
  return { ...context, gateway: { ...gateway, reads: failingReads(reads), backgroundReads: failingReads(backgroundReads) } }
}

/** What the audit log has of calls that were given up for an organization. */
async function givenUp(id: string): Promise<readonly unknown[]> {
  const { rows } = await billing.database.db.query<{ after: unknown }>(
    `select after from audit_log where organization_id = $1 and action = 'stripe_call.given_up'`,
    [id],
  )
  return rows.map(({ after }) => after)
}

test('what has to follow on a change, and is never carried out, is given up after an hour and left to operators: it keeps nothing waiting', async () => {
  const id = 'duty'
  await leavingInVain(id)
  const never = failing(billing.context, 'before', 'release_schedule', GARBAGE)
  await housekept(never, { from: 2 * MINUTE_MS, until: 50 * MINUTE_MS })
  expect(await givenUp(id)).toEqual([])
  await housekept(never, { from: 60 * MINUTE_MS, until: 80 * MINUTE_MS })
  expect(await givenUp(id)).toMatchObject([{ call: 'release_schedule', outcome: 'not_made' }])
  expect(await post(id, 'cancel', { immediate: true })).toMatchObject({ status: 200 })
})

test('what has to follow is carried out where Stripe does it within the hour, and nobody is told', async () => {
  const id = 'duty_done'
  await leavingInVain(id)
  await housekept(failing(billing.context, 'before', 'release_schedule', GARBAGE), {
    from: 2 * MINUTE_MS,
    until: 30 * MINUTE_MS,
  })
  await housekept(billing.context, { from: 32 * MINUTE_MS, until: 32 * MINUTE_MS })
  expect(billing.sandbox.all('subscription_schedule').at(-1)).toMatchObject({ status: 'released' })
  expect(await givenUp(id)).toEqual([])
})

test('a call of which Stripe never says what became of it is given up when its key is forgotten, and left to operators', async () => {
  const id = await subscribed('unknown', 'max')
  const change = changeByOperator(
    failing(billing.context, 'before', 'schedule_switch', GARBAGE),
    id,
    switchTo('pro', 'period_end'),
  )
  await expect(change).rejects.toBe(GARBAGE)
  const unreadable = reading(billing.context, 'retrieveSchedule', () => false)
  await housekept(unreadable, { from: 22 * HOUR_MS, until: 22 * HOUR_MS })
  expect(await givenUp(id)).toEqual([])
  await housekept(unreadable, { from: 24 * HOUR_MS, until: 24 * HOUR_MS + 4 * MINUTE_MS })
  expect(await givenUp(id)).toMatchObject([{ call: 'schedule_switch', outcome: 'unknown' }])
  expect(await post(id, 'cancel', { immediate: true })).toMatchObject({ status: 200 })
})

test('while the mirror cannot follow either, nothing is given up', async () => {
  const id = await subscribed('away')
  await expect(
    changeByOperator(failing(billing.context, 'after', 'update_subscription', GARBAGE), id, switchTo('max')),
  ).rejects.toBe(GARBAGE)
  await housekept(
    reading(billing.context, 'listCharges', () => false),
    { from: 24 * HOUR_MS, until: 24 * HOUR_MS },
  )
  expect(await givenUp(id)).toEqual([])
})

test.each([
  { made: 'was made', at: 'after', status: 'paid', charges: 1 },
  { made: 'was not made', at: 'before', status: 'failed', charges: 0 },
] as const)(
  'a payment of a package that $made, and of which that cannot be read, is not asked for twice',
  async ({ at, status, charges }) => {
    const id = await subscribed(`pack_${at}`)
    const purchase = () => post(id, 'top-ups', { top_up: 'pack' }, { 'Idempotency-Key': 'one' })
    billing.sandbox.setChaos({
      api: [{ route: 'POST /v1/payment_intents', ...(at === 'after' ? { lostResponse: 1 } : { serverError: 1 }) }],
    })
    expect((await purchase()).status).toBeGreaterThanOrEqual(500)
    billing.sandbox.setChaos({})
    // Read for the payment it fails, and answers the mirror.
    let calls = 0
    const unreadable = reading(billing.context, 'listCharges', () => (calls += 1) % 2 === 0)
    await housekept(unreadable, { from: 24 * HOUR_MS, until: 24 * HOUR_MS })
    expect(await givenUp(id)).toMatchObject([{ call: 'create_payment', outcome: 'unknown' }])
    await purchase()
    const listed = (await billing.call(id, 'GET', '/api/v1/billing/top-ups')).body['purchases']
    expect(listed).toMatchObject([{ status }])
    expect(
      billing.sandbox.all('charge').filter(({ amount, metadata }) => amount === 700 && metadata['tollgate_organization'] === id),
    ).toHaveLength(charges)
  },
)
