import { describe, expect, test } from 'vitest'
import { failing, KILLED } from '../../test/failing.ts'
import { changeByOperator } from '../../test/purchases.ts'
import { testSubscriptions } from '../../test/subscriptions.ts'
import { MINUTE_MS } from '../lib/period.ts'
import type { BillingContext } from '../stripe/context.ts'
import { finishStrandedIntents } from '../stripe/intents/finish-intents.ts'
import { createDiscount, readDiscount } from './discounts.ts'

const billing = testSubscriptions({ webhooks: false })
const asker = { actor: 'operator:test', requestId: 'req_test' }

const termsOf = (code: string) => ({
  code,
  percentOff: '50',
  amountOffMinor: null,
  currency: null,
  duration: 'once' as const,
  durationInMonths: null,
  maxRedemptions: 1,
})
const make = (context: BillingContext, code: string) => createDiscount(context, termsOf(code), asker)

async function buy(context: BillingContext, id: string, code: string): Promise<void> {
  const discount = await readDiscount(context.db, code, { currency: 'usd' })
  const [interval, quantity, trialDays] = [null, 1, null] as const
  const bought = { kind: 'subscribe', planKey: 'pro', interval, quantity, trialDays, byOperator: false, discount } as const
  await changeByOperator(context, id, { ...bought, paymentMethodId: 'pm_card_visa' })
}

const paidBy = async (id: string) => (await billing.invoicesOf(id)).map(({ amount_paid_minor: minor }) => minor)

describe('KF-12 a discount whose creation is killed', () => {
  test.each([
    ['before the coupon', 'before', 1],
    ['after the coupon', 'after', 1],
    ['before its code', 'before', 2],
    ['after its code', 'after', 2],
  ] as const)('%s is made once, by who asks again and by the housekeeping', async (_how, at, nth) => {
    const code = `CUT${at}${nth}`.toUpperCase()
    await expect(make(failing(billing.context, at, nth, KILLED), code)).rejects.toThrow('killed')
    const asked = [1, 2].map(() => make(billing.context, code))
    await Promise.all([...asked, finishStrandedIntents(billing.later(3 * MINUTE_MS))])
    await finishStrandedIntents(billing.later(3 * MINUTE_MS))
    expect(billing.sandbox.all('coupon').filter(({ id }) => id === code)).toHaveLength(1)
    expect(billing.sandbox.all('promotion_code').filter((each) => each.code === code)).toHaveLength(1)
    const { rows } = await billing.database.db.query(
      `select count(*)::int as told, (select count(*)::int from stripe_intents where state = 'pending') as open
       from audit_log where action = 'discount.created' and target = $1`,
      [code],
    )
    expect(rows).toEqual([{ told: 1, open: 0 }])
  })
})

describe('KF-12 the last redemption', () => {
  test.each(['before', 'after'] as const)('is the purchase’s whose server was killed %s Stripe’s call', async (at) => {
    const code = `LAST${at}`.toUpperCase()
    await make(billing.context, code)
    const id = await billing.createOrganization(`killed_${at}`)
    await expect(buy(failing(billing.context, at, 'create_subscription', KILLED), id, code)).rejects.toThrow('killed')
    const later = billing.later(3 * MINUTE_MS)
    await buy(later, id, code)
    expect(await paidBy(id)).toEqual([1450])
    const other = await billing.createOrganization(`too_late_${at}`)
    await expect(buy(later, other, code)).rejects.toMatchObject({ code: 'conflict' })
    expect((await billing.call('operator', 'GET', `/api/v1/billing/discounts/${code}`)).body).toMatchObject({
      times_redeemed: 1,
      valid: false,
    })
  })

  test('is nobody’s twice: bought while the subscription before it is cancelled, it is on one invoice of one subscription', async () => {
    await make(billing.context, 'CROSSED')
    const id = await billing.subscribed('crossing', { tier: 'starter' })
    const cancel = () => changeByOperator(billing.context, id, { kind: 'cancel', immediate: true })
    // Whichever comes first: where that is the purchase, it is refused beside what there is, and made by its repeat.
    const [, cancelled] = await Promise.allSettled([buy(billing.context, id, 'CROSSED'), cancel()])
    expect(cancelled.status).toBe('fulfilled')
    await Promise.allSettled([buy(billing.context, id, 'CROSSED')])
    expect((await paidBy(id)).filter((minor) => minor === 1450)).toHaveLength(1)
    const live = billing.sandbox.all('subscription').filter((each) => each.metadata['tollgate_organization'] === id)
    expect(live.filter(({ status }) => status === 'active')).toHaveLength(1)
  })
})
