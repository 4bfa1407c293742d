import { expect, test } from 'vitest'
import { at, NOW, startBillingBench } from '../../test/billing.ts'

const NEXT = at('2026-02-15T12:00:00Z')
const DAY = 86_400

async function withUsagePrice() {
  const bench = await startBillingBench()
  const { stripe } = bench
  const meter = await stripe.billing.meters.create({
    display_name: 'Calls',
    event_name: 'calls',
    default_aggregation: { formula: 'sum' },
  })
  const recurring = { interval: 'month' as const, usage_type: 'metered' as const, meter: meter.id }
  const cheap = await bench.price(2, { name: 'Cheap calls', recurring })
  const dear = await bench.price(5, { name: 'Dear calls', recurring })
  const base = await bench.price(1000)
  const customer = await bench.customer()
  const send = (value: string, timestamp: number) =>
    stripe.billing.meterEvents.create({ event_name: 'calls', timestamp, payload: { stripe_customer_id: customer.id, value } })
  const subscribe = (...prices: { id: string }[]) =>
    stripe.subscriptions.create({ customer: customer.id, items: prices.map(({ id }) => ({ price: id })) })
  /** The lines of the newest invoice: what each bills, and from when to when. */
  const newest = async () => {
    const { data } = await stripe.invoices.list({ customer: customer.id, limit: 1 })
    return data[0]!.lines.data.map((line) => [line.amount, line.period.start, line.period.end])
  }
  return { ...bench, customer, cheap, dear, base, send, subscribe, newest }
}

test('usage of a trial is not billed when it ends, what comes after it is', async () => {
  const { stripe, customer, cheap, base, send, newest, advance } = await withUsagePrice()
  const items = [base, cheap].map(({ id }) => ({ price: id }))
  await stripe.subscriptions.create({ customer: customer.id, items, trial_period_days: 7 })
  const end = NOW + 7 * DAY
  await advance(customer.clock, end - DAY)
  await send('10', end - 2 * DAY)
  await advance(customer.clock, end + 3700)
  expect((await newest()).map(([amount]) => amount)).toEqual([1000])
  await send('5', end + 60)
  const next = at('2026-02-22T12:00:00Z')
  await advance(customer.clock, next + 3700)
  expect(await newest()).toContainEqual([10, end, next])
})

test('usage that arrives while the draft of a renewal waits is billed by it', async () => {
  const { customer, cheap, base, send, subscribe, newest, advance } = await withUsagePrice()
  await subscribe(base, cheap)
  await send('10', NOW + 60)
  await advance(customer.clock, NEXT + 60)
  expect(await newest()).toContainEqual([20, NOW, NEXT])
  await send('5', NEXT - 1)
  await advance(customer.clock, NEXT + 3700)
  expect(await newest()).toContainEqual([30, NOW, NEXT])
})

test('usage that arrives after that, in the closed period, is billed by no invoice', async () => {
  const { customer, cheap, base, send, subscribe, newest, advance } = await withUsagePrice()
  await subscribe(base, cheap)
  await advance(customer.clock, NEXT + 3700)
  await send('5', NEXT - 1)
  await advance(customer.clock, at('2026-03-15T13:30:00Z'))
  expect(await newest()).toContainEqual([0, NEXT, at('2026-03-15T12:00:00Z')])
})

test('a metered price swapped within a period bills what was used until then, and the new one what is used after', async () => {
  const { stripe, customer, cheap, dear, base, send, subscribe, newest, advance } = await withUsagePrice()
  const subscription = await subscribe(base, cheap)
  await advance(customer.clock, NOW + 10 * DAY)
  await send('10', NOW + 60)
  const item = subscription.items.data.find(({ price }) => price.id === cheap.id)!
  await stripe.subscriptions.update(subscription.id, { items: [{ id: item.id, price: dear.id }] })
  await send('100', NOW + 10 * DAY)
  await advance(customer.clock, NEXT + 3700)
  const lines = await newest()
  expect(lines).toContainEqual([20, NOW, NOW + 10 * DAY])
  expect(lines).toContainEqual([500, NOW + 10 * DAY, NEXT])
  expect(lines).toHaveLength(3)
})

test('a metered price that is added within a period bills nothing of before', async () => {
  const { stripe, customer, cheap, base, send, subscribe, newest, advance } = await withUsagePrice()
  const subscription = await subscribe(base)
  await send('10', NOW + 60)
  await advance(customer.clock, NOW + 10 * DAY)
  await stripe.subscriptions.update(subscription.id, { items: [{ price: cheap.id }] })
  await send('1', NOW + 10 * DAY)
  await advance(customer.clock, NEXT + 3700)
  expect(await newest()).toContainEqual([2, NOW + 10 * DAY, NEXT])
})

test('a removed metered price bills nothing where nothing is to be prorated', async () => {
  const { stripe, customer, cheap, base, send, subscribe, newest, advance } = await withUsagePrice()
  const subscription = await subscribe(base, cheap)
  await advance(customer.clock, NOW + DAY)
  await send('10', NOW + 60)
  const item = subscription.items.data.find(({ price }) => price.id === cheap.id)!
  await stripe.subscriptions.update(subscription.id, { items: [{ id: item.id, deleted: true }], proration_behavior: 'none' })
  await advance(customer.clock, NEXT + 3700)
  expect(await newest()).toEqual([[1000, NEXT, at('2026-03-15T12:00:00Z')]])
})

test('corrections beyond what was used are billed as no usage', async () => {
  const { customer, cheap, base, send, subscribe, newest, advance } = await withUsagePrice()
  await subscribe(base, cheap)
  await send('10', NOW + 60)
  await send('-11', NOW + 61)
  await advance(customer.clock, NEXT + 3700)
  expect(await newest()).toContainEqual([0, NOW, NEXT])
})

test('a preview prices what was used at the prices that a schedule swaps at the renewal, as the renewal does', async () => {
  const { stripe, customer, cheap, dear, base, send, subscribe, advance } = await withUsagePrice()
  const subscription = await subscribe(base, cheap)
  const schedule = await stripe.subscriptionSchedules.create({ from_subscription: subscription.id })
  const items = (price: { id: string }) => [{ price: base.id, quantity: 1 }, { price: price.id }]
  await stripe.subscriptionSchedules.update(schedule.id, {
    phases: [
      { items: items(cheap), start_date: NOW, end_date: NEXT },
      { items: items(dear), duration: { interval: 'month', interval_count: 1 } },
    ],
  })
  await send('10', NOW + 60)
  const { total } = await stripe.invoices.createPreview({ subscription: subscription.id })
  await advance(customer.clock, NEXT + 3700)
  const [renewal] = (await stripe.invoices.list({ customer: customer.id, limit: 1 })).data
  expect([total, renewal!.total]).toEqual([1020, 1020])
})

test('a preview of more than ten lines is read by the page', async () => {
  const { stripe, customer, base, subscribe } = await withUsagePrice()
  const subscription = await subscribe(base)
  for (let index = 0; index < 11; index += 1) {
    await stripe.invoiceItems.create({
      customer: customer.id,
      subscription: subscription.id,
      amount: 100 + index,
      currency: 'usd',
    })
  }
  const preview = await stripe.invoices.createPreview({ subscription: subscription.id })
  expect([preview.lines.data.length, preview.lines.has_more]).toEqual([10, true])
  const { data } = await stripe.invoices.listLineItems(preview.id, { limit: 100 })
  expect(data).toHaveLength(12)
  expect(data.reduce((sum, { amount }) => sum + amount, 0)).toBe(preview.total)
  await expect(stripe.invoices.listLineItems('upcoming_in_none')).rejects.toMatchObject({ code: 'resource_missing' })
})
