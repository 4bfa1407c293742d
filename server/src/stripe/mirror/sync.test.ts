import { describe, expect, test } from 'vitest'
import { PATIENCE } from '../../../test/patience.ts'
import { testSubscriptions } from '../../../test/subscriptions.ts'

const billing = testSubscriptions()
const { post, subscriptionOf, succeed } = billing
const BILLING = '/api/v1/billing'

/** A paying organization; answers its customer and subscription at Stripe. */
async function paying(id: string, paymentMethodId = 'pm_card_visa'): Promise<{ customer: string; subscription: string }> {
  await billing.createOrganization(id)
  const bought = await succeed(id, 'subscribe', { tier: 'pro', payment_method_id: paymentMethodId })
  const { stripe_customer_id: customer } = await subscriptionOf(id)
  return { customer: customer as string, subscription: bought['subscription_id'] as string }
}

async function rowsOf<Row extends object>(sql: string, id: string): Promise<Row[]> {
  return (await billing.database.db.query<Row>(sql, [id])).rows
}

describe('what is done in Stripe’s own dashboard', () => {
  test('a price that no plan has keeps the plan, and raises an alert: it is never the free one', async () => {
    const { customer, subscription } = await paying('odd_price')
    const product = await billing.stripe.products.create({ name: 'Made by hand' })
    const price = await billing.stripe.prices.create({
      product: product.id,
      currency: 'usd',
      unit_amount: 1,
      recurring: { interval: 'month' },
    })
    const [item] = (await billing.stripe.subscriptions.retrieve(subscription)).items.data
    await billing.stripe.subscriptions.update(subscription, {
      items: [{ id: item!.id, price: price.id }],
      proration_behavior: 'none',
    })
    await expect
      .poll(async () => billing.logged.some(({ fields }) => fields['event'] === 'billing.unknown_price'), PATIENCE)
      .toBe(true)
    expect(await subscriptionOf('odd_price')).toMatchObject({ tier: 'PRO', status: 'active', stripe_customer_id: customer })
    expect(billing.logged.find(({ fields }) => fields['event'] === 'billing.unknown_price')).toMatchObject({
      level: 'error',
      fields: { organization_id: 'odd_price', subscriptionId: subscription, priceIds: [price.id] },
    })
  })

  test('a customer that is deleted takes its subscription along, and the next purchase makes a new one', async () => {
    const { customer } = await paying('deleted')
    await billing.stripe.customers.del(customer)
    await expect
      .poll(() => subscriptionOf('deleted'), PATIENCE)
      .toMatchObject({
        tier: 'FREE',
        status: 'canceled',
        stripe_customer_id: null,
        payment_method_id: null,
      })
    const again = await post('deleted', 'subscribe', { tier: 'starter', payment_method_id: 'pm_card_visa' })
    expect(again).toMatchObject({ status: 200, body: { status: 'active', tier: 'STARTER' } })
    expect((await subscriptionOf('deleted'))['stripe_customer_id']).not.toBe(customer)
  })

  test('a refund and a dispute show in the charges', async () => {
    const { customer } = await paying('refunded')
    const [charge] = (await billing.stripe.charges.list({ customer })).data
    await billing.stripe.refunds.create({ charge: charge!.id, amount: 900 })
    const read = () =>
      rowsOf(
        'select amount_minor, amount_refunded_minor, refunded, disputed from stripe_charges where organization_id = $1',
        'refunded',
      )
    await expect
      .poll(read, PATIENCE)
      .toEqual([{ amount_minor: 2900n, amount_refunded_minor: 900n, refunded: false, disputed: false }])

    await paying('disputed', 'pm_card_createDispute')
    const disputed = () => rowsOf('select disputed from stripe_charges where organization_id = $1', 'disputed')
    await expect.poll(disputed, PATIENCE).toEqual([{ disputed: true }])
  })

  test('a payment method that is taken away is gone here too', async () => {
    const { customer } = await paying('detached')
    const extra = await billing.stripe.paymentMethods.attach('pm_card_mastercard', { customer })
    const methods = async () =>
      ((await billing.call('detached', 'GET', `${BILLING}/payment-methods`)).body as unknown as { id: string }[]).map(
        ({ id }) => id,
      )
    await expect.poll(methods, PATIENCE).toContain(extra.id)
    await billing.stripe.paymentMethods.detach(extra.id)
    await expect.poll(methods, PATIENCE).not.toContain(extra.id)
  })

  test('a card that is charged as the customer’s default source is told, and cannot be taken away', async () => {
    await billing.createOrganization('source')
    // As one that was there before: it names its organization, and its card is from before payment methods.
    const { id: customer } = await billing.stripe.customers.create({ metadata: { tollgate_organization: 'source' } })
    const { id: card } = await billing.stripe.paymentMethods.attach('pm_card_mastercard', { customer })
    await billing.stripe.customers.update(customer, { default_source: card })
    const price = await billing.priceOf('pro')
    expect((await billing.stripe.subscriptions.create({ customer, items: [{ price }] })).status).toBe('active')
    await expect.poll(() => subscriptionOf('source'), PATIENCE).toMatchObject({ tier: 'PRO' })
    const charged = async () =>
      (
        (await billing.call('source', 'GET', `${BILLING}/payment-methods`)).body as unknown as {
          id: string
          is_default: boolean
        }[]
      )
        .filter(({ is_default: isDefault }) => isDefault)
        .map(({ id }) => id)
    await expect.poll(charged, PATIENCE).toEqual([card])
    expect((await billing.call('source', 'DELETE', `${BILLING}/payment-methods/${card}`)).status).toBe(409)
  })

  test('a draft invoice that is deleted leaves no trace', async () => {
    const { customer } = await paying('drafts')
    const draft = await billing.stripe.invoices.create({ customer, auto_advance: false })
    const ids = async () =>
      (await rowsOf<{ id: string }>('select id from stripe_invoices where organization_id = $1', 'drafts')).map(({ id }) => id)
    await expect.poll(ids, PATIENCE).toContain(draft.id)
    await billing.stripe.invoices.del(draft.id)
    await expect.poll(ids, PATIENCE).not.toContain(draft.id)
  })

  test('a second live subscription raises an alert, and the better standing one counts', async () => {
    const { customer, subscription } = await paying('twice')
    const price = await billing.priceOf('enterprise')
    await billing.stripe.subscriptions.create({ customer, items: [{ price }], payment_behavior: 'default_incomplete' })
    await billing.stripe.subscriptions.create({ customer, items: [{ price }], trial_period_days: 3 })
    await expect
      .poll(async () => billing.logged.some(({ fields }) => fields['event'] === 'billing.several_subscriptions'), PATIENCE)
      .toBe(true)
    expect(await subscriptionOf('twice')).toMatchObject({ tier: 'PRO', status: 'active', subscription_id: subscription })
  })

  test('a change that is scheduled for the middle of a period is known', async () => {
    const { subscription } = await paying('mid_period')
    const price = await billing.priceOf('starter')
    const { id, phases } = await billing.stripe.subscriptionSchedules.create({ from_subscription: subscription })
    const [running] = phases
    const end = running!.start_date + 10 * 86_400
    const items = running!.items.map((item) => ({ price: item.price as string, quantity: 1 }))
    await billing.stripe.subscriptionSchedules.update(id, {
      phases: [
        { items, start_date: running!.start_date, end_date: end },
        { items: [{ price, quantity: 1 }], start_date: end, duration: { interval: 'month', interval_count: 1 } },
      ],
    })
    await expect
      .poll(async () => (await subscriptionOf('mid_period'))['scheduled_change'], PATIENCE)
      .toMatchObject({ tier: 'STARTER', at: new Date(end * 1000).toISOString() })
  })

  test('a change is known by the plan’s item of the phase, whatever stands before it', async () => {
    const { subscription } = await paying('beside_first')
    const price = await billing.priceOf('starter')
    const product = await billing.stripe.products.create({ name: 'Support by the month' })
    const recurring = { interval: 'month' } as const
    const beside = await billing.stripe.prices.create({ product: product.id, currency: 'usd', unit_amount: 5_000, recurring })
    const { id, phases } = await billing.stripe.subscriptionSchedules.create({ from_subscription: subscription })
    const [running] = phases
    const items = running!.items.map((item) => ({ price: item.price as string, quantity: 1 }))
    const next = [
      { price: beside.id, quantity: 7 },
      { price, quantity: 2 },
    ]
    await billing.stripe.subscriptionSchedules.update(id, {
      phases: [
        { items, start_date: running!.start_date, end_date: running!.end_date },
        { items: next, start_date: running!.end_date, duration: { interval: 'month', interval_count: 1 } },
      ],
    })
    await expect
      .poll(async () => (await subscriptionOf('beside_first'))['scheduled_change'], PATIENCE)
      .toMatchObject({ tier: 'STARTER', quantity: 2, at: new Date(running!.end_date * 1000).toISOString() })
  })

  test('a subscription to something else beside the plan’s takes nothing over: it is not the one that is paid for or cancelled', async () => {
    const { customer, subscription } = await paying('retainer')
    const product = await billing.stripe.products.create({ name: 'Support by the month' })
    const recurring = { interval: 'month' } as const
    const price = await billing.stripe.prices.create({ product: product.id, currency: 'usd', unit_amount: 50_000, recurring })
    const beside = await billing.stripe.subscriptions.create({ customer, items: [{ price: price.id }] })
    await expect
      .poll(() => rowsOf('select 1 from stripe_subscriptions where organization_id = $1', 'retainer'), PATIENCE)
      .toHaveLength(2)
    expect(await subscriptionOf('retainer')).toMatchObject({ tier: 'PRO', status: 'active', subscription_id: subscription })
    expect(await post('retainer', 'cancel', { immediate: true })).toMatchObject({ status: 200 })
    const status = async (id: string) => (await billing.stripe.subscriptions.retrieve(id)).status
    expect([await status(subscription), await status(beside.id)]).toEqual(['canceled', 'active'])
  })
})

describe('a customer that is deleted and leaves an invoice unpaid', () => {
  /** Deletes a customer that owes for its subscription; answers the invoice. */
  async function leftBehind(id: string): Promise<string> {
    const { customer, subscription } = await paying(id)
    const { id: card } = await billing.stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer })
    const invoice = await billing.stripe.invoices.create({
      customer,
      subscription,
      default_payment_method: card,
      auto_advance: false,
    })
    await billing.stripe.invoiceItems.create({ customer, invoice: invoice.id, amount: 4_000, currency: 'usd' })
    await expect(billing.stripe.invoices.pay(invoice.id)).rejects.toMatchObject({ statusCode: 402 })
    await expect.poll(() => standingOf(id), PATIENCE).toMatchObject({ state: 'grace' })
    await billing.stripe.customers.del(customer)
    await expect.poll(() => standingOf(id), PATIENCE).toMatchObject({ state: 'free' })
    expect(await subscribe(id)).toMatchObject({ status: 402, body: { invoice_id: invoice.id } })
    return invoice.id
  }
  const standingOf = async (id: string) => (await subscriptionOf(id))['standing']

  const subscribe = (id: string) => post(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })

  test('owes it until it is voided, and then no more', async () => {
    const invoice = await leftBehind('left_behind')
    await billing.stripe.invoices.voidInvoice(invoice)
    await expect.poll(() => subscribe('left_behind'), PATIENCE).toMatchObject({ status: 200, body: { status: 'active' } })
  })

  test('owes it until it is paid, also with another customer by then', async () => {
    const invoice = await leftBehind('another_customer')
    await post('another_customer', 'payment-methods', { payment_method_id: 'pm_card_visa' })
    expect((await subscriptionOf('another_customer'))['stripe_customer_id']).toMatch(/^cus_/)
    await billing.stripe.invoices.pay(invoice, { paid_out_of_band: true })
    await expect.poll(() => subscribe('another_customer'), PATIENCE).toMatchObject({ status: 200, body: { status: 'active' } })
  })
})

describe('the history of an organization', () => {
  test('tells each thing once, however often its webhooks come', async () => {
    const { customer } = await paying('history')
    await expect
      .poll(async () => rowsOf(`select 1 from stripe_events where customer_id = $1 and handled_at is null`, customer), PATIENCE)
      .toEqual([])
    const kinds = async () =>
      (await rowsOf<{ kind: string }>('select kind from billing_events where organization_id = $1 order by kind', 'history')).map(
        ({ kind }) => kind,
      )
    expect(await kinds()).toEqual(['invoice.created', 'invoice.paid', 'plan.changed', 'subscription.started'])
    await billing.database.db.query('update stripe_events set handled_at = null, outcome = null where customer_id = $1', [
      customer,
    ])
    await expect
      .poll(async () => rowsOf(`select 1 from stripe_events where customer_id = $1 and handled_at is null`, customer), PATIENCE)
      .toEqual([])
    expect(await kinds()).toEqual(['invoice.created', 'invoice.paid', 'plan.changed', 'subscription.started'])
  })
})
