import type { Stripe } from 'stripe'
import { expect, test } from 'vitest'
import { at, NOW, startBillingBench } from '../../../test/billing.ts'

const END = at('2026-02-15T12:00:00Z')

test('a once coupon ends with the invoice that it lowers', async () => {
  const { stripe, price, customer, advance, mark, since } = await startBillingBench()
  const pro = await price(2000)
  const coupon = await stripe.coupons.create({ amount_off: 500, currency: 'usd', duration: 'once' })
  const { id, clock } = await customer()
  mark()
  const subscription = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: pro.id }],
    discounts: [{ coupon: coupon.id }],
    expand: ['latest_invoice.discounts'],
  })
  const invoice = subscription.latest_invoice as Stripe.Invoice
  expect(invoice).toMatchObject({
    subtotal: 2000,
    total: 1500,
    amount_paid: 1500,
    total_discount_amounts: [{ amount: 500 }],
    discounts: [{ object: 'discount', source: { coupon: coupon.id } }],
    lines: { data: [{ amount: 2000, discount_amounts: [{ amount: 500 }] }] },
  })
  expect(subscription.discounts).toEqual([])
  expect(since()).toContain('customer.discount.created')
  expect(since()).toContain('customer.discount.deleted')
  await advance(clock, END + 3600)
  expect((await stripe.invoices.list({ customer: id, limit: 1 })).data[0]).toMatchObject({ total: 2000 })
  expect(await stripe.coupons.retrieve(coupon.id)).toMatchObject({ times_redeemed: 1, valid: true })
})

test('a repeating coupon runs out by itself after its months', async () => {
  const { stripe, price, customer, advance, mark, since } = await startBillingBench()
  const pro = await price(2000)
  const coupon = await stripe.coupons.create({ percent_off: 25, duration: 'repeating', duration_in_months: 2 })
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: pro.id }],
    discounts: [{ coupon: coupon.id }],
  })
  await advance(clock, END + 3600)
  mark()
  await advance(clock, at('2026-03-15T13:00:00Z'))
  expect(since().slice(1, 3)).toEqual(['customer.discount.deleted', 'customer.subscription.updated'])
  const totals = (await stripe.invoices.list({ subscription: subscription.id })).data.map((invoice) => invoice.total)
  expect(totals).toEqual([2000, 1500, 1500])
  expect((await stripe.subscriptions.retrieve(subscription.id)).discounts).toEqual([])
})

test('an item discount comes before the subscription discount, and an amount is apportioned over the lines', async () => {
  const { stripe, price, customer } = await startBillingBench()
  const [ten, twenty] = [await price(1000), await price(2000)]
  const five = await stripe.coupons.create({ amount_off: 500, currency: 'usd', duration: 'forever' })
  const half = await stripe.coupons.create({ percent_off: 50, duration: 'forever' })
  const { id } = await customer()
  const both = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: ten.id }, { price: twenty.id }],
    discounts: [{ coupon: five.id }],
    expand: ['latest_invoice'],
  })
  const amounts = (invoice: Stripe.Invoice): number[][] =>
    invoice.lines.data.map((line) => (line.discount_amounts ?? []).map((share) => share.amount))
  expect(amounts(both.latest_invoice as Stripe.Invoice)).toEqual([[166], [334]])
  const nested = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: ten.id, discounts: [{ coupon: half.id }] }],
    discounts: [{ coupon: five.id }],
    expand: ['latest_invoice'],
  })
  expect(amounts(nested.latest_invoice as Stripe.Invoice)).toEqual([[500, 500]])
  expect(nested.latest_invoice).toMatchObject({ total: 0, status: 'paid' })
})

test('a discount of an item that is named again when the item changes goes on, and one that is not ends', async () => {
  const { stripe, price, customer } = await startBillingBench()
  const [ten, twenty] = [await price(1000), await price(2000)]
  const half = await stripe.coupons.create({ percent_off: 50, duration: 'forever' })
  const { id } = await customer()
  const { id: subscription } = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: ten.id, discounts: [{ coupon: half.id }] }],
  })
  const itemOf = async () => (await stripe.subscriptions.retrieve(subscription)).items.data[0]!
  const next = async () => (await stripe.invoices.createPreview({ subscription, preview_mode: 'recurring' })).total
  const item = await itemOf()
  const kept = item.discounts.map((discount) => ({ discount: discount as string }))
  await stripe.subscriptionItems.update(item.id, { price: twenty.id, discounts: kept })
  expect((await itemOf()).discounts).toEqual(item.discounts)
  expect(await next()).toBe(1000)
  await stripe.subscriptionItems.update(item.id, { discounts: '' })
  expect((await itemOf()).discounts).toEqual([])
  expect(await next()).toBe(2000)
})

test('a coupon for one product leaves the others alone', async () => {
  const { stripe, price, customer } = await startBillingBench()
  const [ten, twenty] = [await price(1000), await price(2000)]
  const coupon = await stripe.coupons.create({
    percent_off: 10,
    duration: 'forever',
    applies_to: { products: [twenty.product as string] },
  })
  const { id } = await customer()
  const subscription = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: ten.id }, { price: twenty.id }],
    discounts: [{ coupon: coupon.id }],
    expand: ['latest_invoice'],
  })
  expect(subscription.latest_invoice).toMatchObject({ total: 2800 })
  expect((await stripe.coupons.retrieve(coupon.id, { expand: ['applies_to'] })).applies_to).toEqual({
    products: [twenty.product],
  })
})

test('a promotion code is found by its code and refused where its restrictions say', async () => {
  const { stripe, price, customer } = await startBillingBench()
  const pro = await price(2000)
  const coupon = await stripe.coupons.create({ percent_off: 20, duration: 'forever' })
  const promotion = await stripe.promotionCodes.create({
    promotion: { type: 'coupon', coupon: coupon.id },
    code: 'SPRING',
    max_redemptions: 1,
    restrictions: { first_time_transaction: true, minimum_amount: 1000, minimum_amount_currency: 'usd' },
  })
  expect((await stripe.promotionCodes.list({ code: 'spring' })).data.map((code) => code.id)).toEqual([promotion.id])
  await expect(
    stripe.promotionCodes.create({ promotion: { type: 'coupon', coupon: coupon.id }, code: 'SPRING' }),
  ).rejects.toMatchObject({
    code: 'resource_already_exists',
  })
  const first = await customer()
  const create = (id: string) =>
    stripe.subscriptions.create({
      customer: id,
      items: [{ price: pro.id }],
      discounts: [{ promotion_code: promotion.id }],
      expand: ['latest_invoice'],
    })
  expect((await create(first.id)).latest_invoice).toMatchObject({ total: 1600 })
  const second = await customer()
  await expect(create(second.id)).rejects.toMatchObject({ statusCode: 400, param: 'discounts[0][promotion_code]' })
  expect(await stripe.promotionCodes.retrieve(promotion.id)).toMatchObject({ times_redeemed: 1 })
  await expect(create(first.id)).rejects.toMatchObject({ statusCode: 400 })
})

test('a coupon that is used up, over, or of another currency is refused, and nothing is redeemed', async () => {
  const { stripe, price, customer } = await startBillingBench()
  const pro = await price(2000)
  const over = await stripe.coupons.create({ percent_off: 10, duration: 'once', redeem_by: NOW - 1 })
  const euros = await stripe.coupons.create({ amount_off: 100, currency: 'eur', duration: 'once' })
  expect(over.valid).toBe(false)
  const { id } = await customer()
  for (const coupon of [over.id, euros.id, 'nothing']) {
    await expect(
      stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }], discounts: [{ coupon }] }),
    ).rejects.toMatchObject({ statusCode: 400 })
  }
  expect((await stripe.subscriptions.list({ customer: id, status: 'all' })).data).toEqual([])
  await expect(stripe.coupons.create({ duration: 'once' })).rejects.toMatchObject({ code: 'parameter_missing' })
  await expect(stripe.coupons.create({ percent_off: 101 })).rejects.toMatchObject({ param: 'percent_off' })
})

test('a deleted coupon is gone, and what it was redeemed for goes on', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const pro = await price(2000)
  const coupon = await stripe.coupons.create({ percent_off: 50, duration: 'forever' })
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: pro.id }],
    discounts: [{ coupon: coupon.id }],
  })
  expect(await stripe.coupons.del(coupon.id)).toMatchObject({ deleted: true })
  await expect(stripe.coupons.retrieve(coupon.id)).rejects.toMatchObject({ statusCode: 404 })
  await advance(clock, END + 3600)
  expect((await stripe.invoices.list({ subscription: subscription.id, limit: 1 })).data[0]).toMatchObject({ total: 1000 })
  expect(await stripe.subscriptions.deleteDiscount(subscription.id)).toMatchObject({ object: 'discount', deleted: true })
  expect((await stripe.subscriptions.retrieve(subscription.id)).discounts).toEqual([])
})

test('prorations carry the discount in their amounts', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const [pro, team] = [await price(1000), await price(2000)]
  const coupon = await stripe.coupons.create({ percent_off: 20, duration: 'forever' })
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({
    customer: id,
    items: [{ price: pro.id }],
    discounts: [{ coupon: coupon.id }],
  })
  await advance(clock, NOW + (END - NOW) / 2)
  const updated = await stripe.subscriptions.update(subscription.id, {
    items: [{ id: subscription.items.data[0]?.id ?? '', price: team.id }],
    proration_behavior: 'always_invoice',
    expand: ['latest_invoice'],
  })
  const invoice = updated.latest_invoice as Stripe.Invoice
  expect(invoice.lines.data.map((line) => [line.amount, line.discountable])).toEqual([
    [-400, false],
    [800, false],
  ])
  expect(invoice.total).toBe(400)
})
