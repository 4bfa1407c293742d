import { expect, test } from 'vitest'
import { createDiscountReader } from './discount-snapshots.ts'

const coupon = (created: number, products: readonly string[]) => ({
  id: 'SUMMER',
  created,
  currency: null,
  percent_off: 50,
  amount_off: null,
  duration: 'forever',
  applies_to: { products },
})
const amountCoupon = {
  ...coupon(1, ['prod_1']),
  id: 'FIVE',
  currency: 'usd',
  percent_off: null,
  amount_off: 500,
  currency_options: { eur: { amount_off: 450 } },
}
type Coupon = ReturnType<typeof coupon> | typeof amountCoupon

const discountOf = (source: object) => ({ end: null, source: { coupon: source as Coupon } })

/** A reader of subscriptions that have one discount each; `listed` is as a list shows it, without what has to be expanded. */
function readerOf(coupons: Readonly<Record<string, Coupon>>) {
  const asked: string[] = []
  const read = createDiscountReader({
    retrieveSubscription: async (id) => {
      asked.push(id)
      return { discounts: [discountOf(coupons[id]!)] }
    },
    retrieveItem: async () => ({ discounts: [] }),
  })
  const listed = (id: string, currency = 'usd') => {
    const { applies_to: _, ...shown } = coupons[id]!
    return {
      id,
      currency,
      status: 'active',
      items: { data: [] },
      discounts: [discountOf({ ...shown, currency_options: undefined })],
    }
  }
  return { asked, read: (id: string, currency?: string) => read(listed(id, currency)) }
}

test('reads what a coupon is limited to once, and again of another that has taken the name of a deleted one', async () => {
  const reader = readerOf({ sub_1: coupon(1, ['prod_1']), sub_2: coupon(1, ['prod_1']), sub_3: coupon(2, ['prod_2']) })
  expect(await reader.read('sub_1')).toMatchObject([{ products: ['prod_1'] }])
  expect(await reader.read('sub_2')).toMatchObject([{ products: ['prod_1'] }])
  expect(await reader.read('sub_3')).toMatchObject([{ products: ['prod_2'] }])
  expect(await reader.read('sub_1')).toMatchObject([{ products: ['prod_1'] }])
  expect(reader.asked).toEqual(['sub_1', 'sub_3'])
})

test('takes the amount off that a coupon has in the currency of the subscription', async () => {
  const reader = readerOf({ sub_1: amountCoupon, sub_2: amountCoupon, sub_3: amountCoupon })
  expect(await reader.read('sub_1')).toMatchObject([{ amountOffMinor: 500 }])
  expect(await reader.read('sub_2', 'eur')).toMatchObject([{ amountOffMinor: 450 }])
  expect(await reader.read('sub_3', 'gbp')).toMatchObject([{ amountOffMinor: 0 }])
})
