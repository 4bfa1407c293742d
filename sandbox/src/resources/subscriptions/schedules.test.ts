import type { Stripe } from 'stripe'
import { expect, test } from 'vitest'
import { at, NOW, startBillingBench } from '../../../test/billing.ts'

const END = at('2026-02-15T12:00:00Z')
const NEXT = at('2026-03-15T12:00:00Z')

test('a downgrade at the end of the period: a schedule from the subscription swaps the price at the boundary', async () => {
  const { stripe, price, customer, advance, mark, since } = await startBillingBench()
  const [team, pro] = [await price(3000, { name: 'Team' }), await price(1000, { name: 'Pro' })]
  const { id, clock } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: team.id }] })
  const schedule = await stripe.subscriptionSchedules.create({ from_subscription: subscription.id })
  expect(schedule).toMatchObject({
    status: 'active',
    subscription: subscription.id,
    end_behavior: 'release',
    current_phase: { start_date: NOW, end_date: END },
    phases: [{ items: [{ price: team.id, quantity: 1 }], start_date: NOW, end_date: END }],
  })
  expect((await stripe.subscriptions.retrieve(subscription.id)).schedule).toBe(schedule.id)
  const [current] = schedule.phases
  const planned = await stripe.subscriptionSchedules.update(schedule.id, {
    phases: [
      { items: [{ price: team.id, quantity: 1 }], start_date: current?.start_date ?? 0, end_date: current?.end_date ?? 0 },
      { items: [{ price: pro.id, quantity: 1 }], duration: { interval: 'month', interval_count: 1 } },
    ],
  })
  expect(planned.phases.map((phase) => [phase.start_date, phase.end_date])).toEqual([
    [NOW, END],
    [END, NEXT],
  ])
  expect((await stripe.subscriptions.retrieve(subscription.id)).items.data[0]?.price.id).toBe(team.id)
  expect(await stripe.invoices.createPreview({ schedule: schedule.id })).toMatchObject({
    total: 1000,
    lines: { data: [{ description: '1 × Pro (at $10.00 / month)', period: { start: END, end: NEXT } }] },
  })
  await advance(clock, END - 1)
  mark()
  await advance(clock, END + 3600)
  expect((await stripe.subscriptions.retrieve(subscription.id)).items.data[0]?.price.id).toBe(pro.id)
  const [renewal] = (await stripe.invoices.list({ subscription: subscription.id, limit: 1 })).data
  expect(renewal).toMatchObject({
    total: 1000,
    status: 'paid',
    lines: { data: [{ description: '1 × Pro (at $10.00 / month)' }] },
  })
  expect(since()).toContain('subscription_schedule.updated')
  await advance(clock, NEXT)
  expect(await stripe.subscriptionSchedules.retrieve(schedule.id)).toMatchObject({
    status: 'released',
    released_subscription: subscription.id,
    subscription: null,
  })
  expect(await stripe.subscriptions.retrieve(subscription.id)).toMatchObject({ schedule: null, status: 'active' })
})

test('a schedule in the future starts its subscription then, and cancels it after its last phase', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const pro = await price(1000)
  const { id, clock } = await customer()
  const start = NOW + 86_400
  const schedule = await stripe.subscriptionSchedules.create({
    customer: id,
    start_date: start,
    end_behavior: 'cancel',
    phases: [{ items: [{ price: pro.id }], duration: { interval: 'month', interval_count: 2 } }],
  })
  expect(schedule).toMatchObject({ status: 'not_started', subscription: null })
  expect(await stripe.invoices.createPreview({ schedule: schedule.id })).toMatchObject({ total: 1000 })
  await advance(clock, start)
  const started = await stripe.subscriptionSchedules.retrieve(schedule.id, { expand: ['subscription'] })
  const end = at('2026-03-16T12:00:00Z')
  expect(started).toMatchObject({ status: 'active', subscription: { status: 'active', start_date: start, cancel_at: end } })
  await advance(clock, at('2026-02-16T14:00:00Z'))
  await advance(clock, end)
  expect(await stripe.subscriptionSchedules.retrieve(schedule.id)).toMatchObject({ status: 'completed', completed_at: end })
  const subscription = await stripe.subscriptions.retrieve((started.subscription as Stripe.Subscription).id)
  expect(subscription).toMatchObject({ status: 'canceled', ended_at: end })
  expect((await stripe.invoices.list({ subscription: subscription.id })).data.map((invoice) => invoice.total)).toEqual([
    1000, 1000,
  ])
})

test('a phase can begin with a trial, change the quantity within a period, and take coupons', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const seat = await price(1000, { name: 'Seat' })
  const coupon = await stripe.coupons.create({ percent_off: 50, duration: 'forever' })
  const { id, clock } = await customer()
  const schedule = await stripe.subscriptionSchedules.create({
    customer: id,
    start_date: 'now',
    phases: [
      { items: [{ price: seat.id, quantity: 1 }], end_date: NOW + 7 * 86_400, trial: true },
      {
        items: [{ price: seat.id, quantity: 2 }],
        discounts: [{ coupon: coupon.id }],
        duration: { interval: 'month', interval_count: 1 },
      },
    ],
  })
  expect(schedule).toMatchObject({ status: 'active', current_phase: { start_date: NOW, end_date: NOW + 7 * 86_400 } })
  const subscription = await stripe.subscriptions.retrieve(schedule.subscription as string)
  expect(subscription).toMatchObject({ status: 'trialing', trial_end: NOW + 7 * 86_400, schedule: schedule.id })
  await advance(clock, NOW + 7 * 86_400 + 3600)
  const [invoice] = (await stripe.invoices.list({ subscription: subscription.id, limit: 1 })).data
  expect(invoice).toMatchObject({ subtotal: 2000, total: 1000, status: 'paid' })
})

test('a phase has the discounts that it names: one that names none ends those of the subscription, one that names them keeps them', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const seat = await price(1000)
  const coupon = await stripe.coupons.create({ percent_off: 50, duration: 'forever' })
  const items = [{ price: seat.id, quantity: 1 }]
  const renewed = async (named: 'none' | 'of the first phase' | 'of both') => {
    const { id, clock } = await customer()
    const subscription = await stripe.subscriptions.create({ customer: id, items, discounts: [{ coupon: coupon.id }] })
    const discounts = subscription.discounts.map((discount) => ({ discount: discount as string }))
    const schedule = await stripe.subscriptionSchedules.create({ from_subscription: subscription.id })
    expect(schedule.phases[0]).toMatchObject({ discounts })
    await stripe.subscriptionSchedules.update(schedule.id, {
      phases: [
        { items, start_date: NOW, end_date: END, ...(named === 'none' ? {} : { discounts }) },
        { items: [{ price: seat.id, quantity: 2 }], ...(named === 'of both' ? { discounts } : {}) },
      ],
    })
    const now = (await stripe.subscriptions.retrieve(subscription.id)).discounts.length
    const { total: foretold } = await stripe.invoices.createPreview({ subscription: subscription.id })
    await advance(clock, END + 3600)
    const [invoice] = (await stripe.invoices.list({ subscription: subscription.id, limit: 1 })).data
    const { discounts: left } = await stripe.subscriptions.retrieve(subscription.id)
    expect(left).toEqual(named === 'of both' ? subscription.discounts : [])
    return { now, foretold, total: invoice?.total }
  }
  expect(await renewed('none')).toEqual({ now: 0, foretold: 2000, total: 2000 })
  expect(await renewed('of the first phase')).toEqual({ now: 1, foretold: 2000, total: 2000 })
  expect(await renewed('of both')).toEqual({ now: 1, foretold: 1000, total: 1000 })
  expect((await stripe.coupons.retrieve(coupon.id)).times_redeemed).toBe(3)
})

test('a phase that bills at another interval starts its cycle anew', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const monthly = await price(1000)
  const yearly = await price(10_000, { recurring: { interval: 'year' } })
  const { id, clock } = await customer()
  const schedule = await stripe.subscriptionSchedules.create({
    customer: id,
    start_date: 'now',
    phases: [{ items: [{ price: monthly.id }], end_date: END }, { items: [{ price: yearly.id }] }],
  })
  await advance(clock, END + 3600)
  const subscription = await stripe.subscriptions.retrieve(schedule.subscription as string, { expand: ['latest_invoice'] })
  expect(subscription.items.data[0]).toMatchObject({
    price: { id: yearly.id },
    current_period_start: END,
    current_period_end: at('2027-02-15T12:00:00Z'),
  })
  expect(subscription.latest_invoice).toMatchObject({ total: 10_000 })
  const invoices = await stripe.invoices.list({ subscription: subscription.id })
  expect(invoices.data.map((invoice) => invoice.total)).toEqual([10_000, 1000])
})

test('releasing keeps the subscription, canceling ends it', async () => {
  const { stripe, price, customer } = await startBillingBench()
  const pro = await price(1000)
  const { id } = await customer()
  const phases = [{ items: [{ price: pro.id }], duration: { interval: 'month' as const, interval_count: 1 } }]
  const kept = await stripe.subscriptionSchedules.create({ customer: id, start_date: 'now', phases })
  expect(await stripe.subscriptionSchedules.release(kept.id)).toMatchObject({ status: 'released', subscription: null })
  expect((await stripe.subscriptions.retrieve(kept.subscription as string)).status).toBe('active')
  const ended = await stripe.subscriptionSchedules.create({ customer: id, start_date: 'now', phases })
  expect(await stripe.subscriptionSchedules.cancel(ended.id)).toMatchObject({ status: 'canceled', canceled_at: NOW })
  expect((await stripe.subscriptions.retrieve(ended.subscription as string)).status).toBe('canceled')
  await expect(stripe.subscriptionSchedules.update(ended.id, { metadata: { a: 'b' } })).rejects.toMatchObject({ statusCode: 400 })
})

test('canceling the subscription takes its schedule with it', async () => {
  const { stripe, price, customer, mark, since } = await startBillingBench()
  const pro = await price(1000)
  const { id } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  const schedule = await stripe.subscriptionSchedules.create({ from_subscription: subscription.id })
  mark()
  await stripe.subscriptions.cancel(subscription.id)
  expect(since()).toEqual(['customer.subscription.deleted', 'subscription_schedule.canceled'])
  expect((await stripe.subscriptionSchedules.retrieve(schedule.id)).status).toBe('canceled')
})

test('a change of the subscription itself is seen in the running phase', async () => {
  const { stripe, price, customer } = await startBillingBench()
  const seat = await price(1000)
  const { id } = await customer()
  const subscription = await stripe.subscriptions.create({ customer: id, items: [{ price: seat.id }] })
  const schedule = await stripe.subscriptionSchedules.create({ from_subscription: subscription.id })
  await stripe.subscriptions.update(subscription.id, { items: [{ id: subscription.items.data[0]?.id ?? '', quantity: 4 }] })
  expect((await stripe.subscriptionSchedules.retrieve(schedule.id)).phases[0]?.items[0]).toMatchObject({
    price: seat.id,
    quantity: 4,
  })
})

test('phases are previewed before there is a schedule, and nothing stays of it', async () => {
  const { stripe, price, customer, sandbox } = await startBillingBench()
  const pro = await price(1000)
  const { id } = await customer()
  const preview = await stripe.invoices.createPreview({
    customer: id,
    schedule_details: {
      phases: [
        { items: [{ price: pro.id, quantity: 3 }], start_date: 'now', duration: { interval: 'month', interval_count: 1 } },
      ],
    },
  })
  expect(preview).toMatchObject({ total: 3000, status: 'draft' })
  expect(sandbox.all('subscription_schedule')).toEqual([])
  expect(sandbox.all('subscription')).toEqual([])
})

/** A subscription that becomes cheaper, at the end of its period or before, with a card that declines. */
async function goingDown({ stripe, price, customer }: Awaited<ReturnType<typeof startBillingBench>>, until = END) {
  const [pro, less, team] = [await price(1000), await price(500), await price(5000)]
  const { id, clock } = await customer()
  const { id: subscription, items } = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
  const failing = await stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer: id })
  await stripe.subscriptions.update(subscription, { default_payment_method: failing.id })
  const { id: schedule } = await stripe.subscriptionSchedules.create({ from_subscription: subscription })
  await stripe.subscriptionSchedules.update(schedule, {
    phases: [{ items: [{ price: pro.id }], start_date: NOW, end_date: until }, { items: [{ price: less.id }] }],
  })
  const goUp = () =>
    stripe.subscriptions.update(subscription, {
      items: [{ id: items.data[0]?.id ?? '', price: team.id }],
      proration_behavior: 'always_invoice',
      payment_behavior: 'pending_if_incomplete',
    })
  const priceOf = async () => (await stripe.subscriptions.retrieve(subscription)).items.data[0]?.price.id
  const good = await stripe.paymentMethods.attach('pm_card_visa', { customer: id })
  return { pro, less, team, clock, subscription, schedule, goUp, priceOf, good }
}

test.each([
  ['period', END, END],
  ['phase', END - 5 * 86_400, END - 5 * 86_400 + 3 * 3600],
])('a change that waits for its payment leaves a schedule as it is, and is dropped with its %s', async (_, until, expires) => {
  const bench = await startBillingBench()
  const { stripe, advance } = bench
  const { less, clock, subscription, schedule, goUp, priceOf, good } = await goingDown(bench, until)
  await advance(clock, until - 20 * 3600)
  const waiting = await goUp()
  expect(waiting).toMatchObject({ schedule, pending_update: { expires_at: expires } })
  await stripe.subscriptions.update(subscription, { default_payment_method: good.id })
  await advance(clock, until + 3600)
  expect(await stripe.invoices.retrieve(waiting.latest_invoice as string)).toMatchObject({ status: 'void' })
  expect(await priceOf()).toBe(less.id)
  expect((await stripe.subscriptions.retrieve(subscription)).pending_update).toBeNull()
})

test('a change that waited and is paid is seen in the running phase; the next one comes nevertheless', async () => {
  const bench = await startBillingBench()
  const { stripe, advance } = bench
  const { less, team, clock, subscription, schedule, goUp, priceOf, good } = await goingDown(bench)
  await stripe.invoices.pay((await goUp()).latest_invoice as string, { payment_method: good.id })
  expect(await priceOf()).toBe(team.id)
  expect((await stripe.subscriptionSchedules.retrieve(schedule)).phases).toMatchObject([
    { items: [{ price: team.id }] },
    { items: [{ price: less.id }] },
  ])
  await stripe.subscriptions.update(subscription, { default_payment_method: good.id })
  await advance(clock, END + 3600)
  expect(await priceOf()).toBe(less.id)
})

test('how a subscription ends is its schedule’s to say: not changed directly, taken over, and given back', async () => {
  const { stripe, price, customer, advance } = await startBillingBench()
  const [pro, less] = [await price(1000), await price(500)]
  const cancelled = async () => {
    const { id, clock } = await customer()
    const { id: subscription } = await stripe.subscriptions.create({ customer: id, items: [{ price: pro.id }] })
    await stripe.subscriptions.update(subscription, { cancel_at_period_end: true })
    const schedule = await stripe.subscriptionSchedules.create({ from_subscription: subscription })
    expect(schedule).toMatchObject({ end_behavior: 'cancel', phases: [{ end_date: END }] })
    const current = () => stripe.subscriptions.retrieve(subscription)
    expect(await current()).toMatchObject({ cancel_at: END })
    return { clock, subscription, schedule: schedule.id, current }
  }
  const managed = await cancelled()
  for (const params of [{ cancel_at_period_end: false }, { cancel_at: '' as const }, { cancel_at: END }])
    await expect(stripe.subscriptions.update(managed.subscription, params)).rejects.toMatchObject({
      statusCode: 400,
      message: expect.stringContaining('updating any cancelation behavior directly is not allowed') as string,
    })
  await advance(managed.clock, END)
  expect((await managed.current()).status).toBe('canceled')

  const goingOn = await cancelled()
  await stripe.subscriptionSchedules.update(goingOn.schedule, {
    end_behavior: 'release',
    phases: [{ items: [{ price: pro.id }], start_date: NOW, end_date: END }, { items: [{ price: less.id }] }],
  })
  expect(await goingOn.current()).toMatchObject({ cancel_at: null, cancel_at_period_end: false, canceled_at: null })
  await advance(goingOn.clock, END + 3600)
  expect(await goingOn.current()).toMatchObject({ status: 'active', items: { data: [{ price: { id: less.id } }] } })

  const kept = await cancelled()
  await stripe.subscriptionSchedules.release(kept.schedule, { preserve_cancel_date: true })
  expect(await kept.current()).toMatchObject({ schedule: null, cancel_at: END })
  const takenBack = await cancelled()
  await stripe.subscriptionSchedules.release(takenBack.schedule)
  expect(await takenBack.current()).toMatchObject({ schedule: null, cancel_at: null, canceled_at: null })
})
