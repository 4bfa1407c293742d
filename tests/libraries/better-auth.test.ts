import { describe, expect, it } from 'vitest'
import { startAuthApplication, type AuthApplication } from './auth-application.ts'
import { Browser, type View } from './browser.ts'

const DAY = 86_400
const goodCard = { card_number: '4242424242424242', exp: '12/34', cvc: '123' }

describe('@better-auth/stripe', () => {
  it('makes one customer when somebody signs up', async () => {
    const app = await startAuthApplication()
    await signUp(app)
    const [user] = app.rows('user')
    const customer = await app.stripe.customers.retrieve(user?.stripeCustomerId ?? '')
    expect(customer).toMatchObject({ email: 'ada@example.com', name: 'Ada', metadata: { customerType: 'user' } })
    expect(app.test.sandbox.all('customer')).toHaveLength(1)
  })

  it('sells a subscription through checkout', async () => {
    const app = await startAuthApplication()
    const browser = await signUp(app)
    const landed = await buy(app, browser, { plan: 'basic', seats: 3 })
    expect(landed.url).toBe(`${app.url}/welcome`)
    await app.settled()
    const subscription = await onlySubscription(app)
    expect(app.rows('subscription')).toMatchObject([
      {
        plan: 'basic',
        status: 'active',
        seats: 3,
        billingInterval: 'month',
        stripeSubscriptionId: subscription.id,
        periodStart: date(subscription.items.data[0]?.current_period_start),
        periodEnd: date(subscription.items.data[0]?.current_period_end),
        cancelAtPeriodEnd: false,
        cancelAt: null,
      },
    ])
    expect(app.told).toEqual(['complete'])
    const listed = await browser.call(`${app.url}/api/auth/subscription/list`)
    expect(listed.body).toMatchObject([{ plan: 'basic', status: 'active', limits: { projects: 5 }, priceId: app.catalog.basic }])
  })

  it('leaves the order open when the card is declined, and takes the next card', async () => {
    const app = await startAuthApplication()
    const browser = await signUp(app)
    const refused = await buy(app, browser, { plan: 'basic' }, { ...goodCard, card_number: '4000000000000002' })
    expect(refused.status).toBe(402)
    expect(refused.html).toContain('Your card was declined.')
    await app.settled()
    expect(app.rows('subscription')).toMatchObject([{ status: 'incomplete' }])
    await browser.submit(refused, { email: 'ada@example.com', ...goodCard })
    await app.settled()
    expect(app.rows('subscription')).toMatchObject([{ status: 'active' }])
  })

  it('upgrades on the portal, at once and prorated', async () => {
    const app = await startAuthApplication()
    const browser = await signUp(app)
    await buy(app, browser, { plan: 'basic' })
    await app.settled()
    app.test.sandbox.advanceTo(app.test.sandbox.now() + 10 * DAY)
    const landed = await confirm(browser, await ask(app, browser, 'upgrade', { plan: 'pro', returnUrl: '/account' }))
    expect(landed.url).toBe(`${app.url}/account`)
    await app.settled()
    const [item] = (await onlySubscription(app)).items.data
    expect(item).toMatchObject({ price: { id: app.catalog.pro }, quantity: 1 })
    const whole = (item?.current_period_end ?? 0) - (item?.current_period_start ?? 0)
    const left = whole - 10 * DAY
    const { data: prorations } = await app.stripe.invoiceItems.list({ pending: true })
    expect(prorations.map(({ amount }) => amount).sort((one, other) => one - other)).toEqual([
      -Math.round((900 * left) / whole),
      Math.round((2900 * left) / whole),
    ])
    expect(app.rows('subscription')).toMatchObject([{ plan: 'pro', status: 'active' }])
    expect(app.told).toEqual(['complete', 'update'])
    const again = await browser.call(`${app.url}/api/auth/subscription/upgrade`, { plan: 'pro' })
    expect(again.body).toMatchObject({ code: 'ALREADY_SUBSCRIBED_PLAN' })
  })

  it('adds seats on the portal', async () => {
    const app = await startAuthApplication()
    const browser = await signUp(app)
    await buy(app, browser, { plan: 'basic', seats: 2 })
    await app.settled()
    await confirm(browser, await ask(app, browser, 'upgrade', { plan: 'basic', seats: 5, returnUrl: '/account' }))
    await app.settled()
    expect((await onlySubscription(app)).items.data).toMatchObject([{ quantity: 5 }])
    expect(app.rows('subscription')).toMatchObject([{ plan: 'basic', seats: 5 }])
  })

  it('moves from monthly to yearly, and the period starts anew', async () => {
    const app = await startAuthApplication()
    const browser = await signUp(app)
    await buy(app, browser, { plan: 'pro' })
    await app.settled()
    await confirm(browser, await ask(app, browser, 'upgrade', { plan: 'pro', annual: true, returnUrl: '/account' }))
    await app.settled()
    const [row] = app.rows('subscription')
    expect(row).toMatchObject({ plan: 'pro', billingInterval: 'year' })
    expect((row?.periodEnd?.getTime() ?? 0) - (row?.periodStart?.getTime() ?? 0)).toBeGreaterThanOrEqual(365 * DAY * 1000)
  })

  it('cancels at the end of the period on the portal', async () => {
    const app = await startAuthApplication()
    const browser = await signUp(app)
    await buy(app, browser, { plan: 'basic' })
    await app.settled()
    const landed = await confirm(browser, await ask(app, browser, 'cancel', { returnUrl: '/account' }))
    expect(landed.html).toContain('The cancellation is scheduled.')
    expect(landed.html).toContain(`href="${app.url}/account"`)
    await app.settled()
    const before = app.rows('subscription')[0]
    expect(before).toMatchObject({ status: 'active', endedAt: null })
    expect(before?.cancelAtPeriodEnd === true || before?.cancelAt != null, 'a pending cancellation').toBe(true)
    expect(app.told).toEqual(['complete', 'cancel', 'update'])

    app.test.sandbox.advanceTo((before?.periodEnd?.getTime() ?? 0) / 1000 + 1)
    await app.settled()
    expect(app.rows('subscription')).toMatchObject([{ status: 'canceled', endedAt: before?.periodEnd }])
    expect(app.told.at(-1)).toBe('deleted')
    const listed = await browser.call(`${app.url}/api/auth/subscription/list`)
    expect(listed.body).toEqual([])
  })

  it('refuses to cancel twice, in the words of Stripe', async () => {
    const app = await startAuthApplication()
    const browser = await signUp(app)
    await buy(app, browser, { plan: 'basic' })
    await app.settled()
    await confirm(browser, await ask(app, browser, 'cancel', { returnUrl: '/account' }))
    await app.settled()
    const again = await browser.call(`${app.url}/api/auth/subscription/cancel`, { returnUrl: '/account' })
    expect(again).toMatchObject({ status: 400, body: { message: expect.stringContaining('already set to be canceled') } })
  })

  it('restores what was to be canceled, and it renews', async () => {
    const app = await startAuthApplication()
    const browser = await signUp(app)
    await buy(app, browser, { plan: 'basic' })
    await app.settled()
    await confirm(browser, await ask(app, browser, 'cancel', { returnUrl: '/account' }))
    await app.settled()
    const restored = await browser.call(`${app.url}/api/auth/subscription/restore`, {})
    expect(restored).toMatchObject({ status: 200, body: { status: 'active', cancel_at: null, cancel_at_period_end: false } })
    await app.settled()
    const [row] = app.rows('subscription')
    expect(row).toMatchObject({ status: 'active', cancelAt: null, cancelAtPeriodEnd: false, canceledAt: null })

    app.test.sandbox.advanceTo((row?.periodEnd?.getTime() ?? 0) / 1000 + 2 * 3600)
    await app.settled()
    expect(app.rows('subscription')).toMatchObject([{ status: 'active', periodStart: row?.periodEnd }])
    const { data: invoices } = await app.stripe.invoices.list()
    expect(invoices.map(({ billing_reason, status }) => [billing_reason, status])).toEqual([
      ['subscription_cycle', 'paid'],
      ['subscription_create', 'paid'],
    ])
  })

  it('gives a trial once, and tells when it has ended', async () => {
    const app = await startAuthApplication()
    const browser = await signUp(app)
    await buy(app, browser, { plan: 'team' })
    await app.settled()
    const [row] = app.rows('subscription')
    expect(row).toMatchObject({ plan: 'team', status: 'trialing', trialEnd: row?.periodEnd })
    app.test.sandbox.advanceTo((row?.trialEnd?.getTime() ?? 0) / 1000 + 1)
    await app.settled()
    expect(app.rows('subscription')).toMatchObject([{ status: 'active', periodStart: row?.trialEnd }])
    expect(app.told.filter((what) => what.startsWith('trial'))).toEqual(['trialStart', 'trialEnd'])

    await app.stripe.subscriptions.cancel(row?.stripeSubscriptionId ?? '')
    await app.settled()
    await buy(app, browser, { plan: 'team' })
    await app.settled()
    expect(app.rows('subscription').map(({ status }) => status)).toEqual(['canceled', 'active'])
  })

  it('changes the plan at the end of the period by a schedule', async () => {
    const app = await startAuthApplication()
    const browser = await signUp(app)
    await buy(app, browser, { plan: 'pro' })
    await app.settled()
    await ask(app, browser, 'upgrade', { plan: 'basic', scheduleAtPeriodEnd: true, returnUrl: '/account' })
    await app.settled()
    const [row] = app.rows('subscription')
    expect(row).toMatchObject({ plan: 'pro', stripeScheduleId: expect.stringMatching(/^sub_sched_/) })
    app.test.sandbox.advanceTo((row?.periodEnd?.getTime() ?? 0) / 1000 + 2 * 3600)
    await app.settled()
    expect(app.rows('subscription')).toMatchObject([{ plan: 'basic', status: 'active', periodStart: row?.periodEnd }])
  })

  it('restores by releasing a schedule', async () => {
    const app = await startAuthApplication()
    const browser = await signUp(app)
    await buy(app, browser, { plan: 'pro' })
    await app.settled()
    await ask(app, browser, 'upgrade', { plan: 'basic', scheduleAtPeriodEnd: true, returnUrl: '/account' })
    await app.settled()
    const restored = await browser.call(`${app.url}/api/auth/subscription/restore`, {})
    expect(restored).toMatchObject({ status: 200, body: { schedule: null } })
    await app.settled()
    const [row] = app.rows('subscription')
    expect(row).toMatchObject({ plan: 'pro', stripeScheduleId: null })
    app.test.sandbox.advanceTo((row?.periodEnd?.getTime() ?? 0) / 1000 + 2 * 3600)
    await app.settled()
    expect(app.rows('subscription')).toMatchObject([{ plan: 'pro', periodStart: row?.periodEnd }])
  })

  it('opens the billing portal', async () => {
    const app = await startAuthApplication()
    const browser = await signUp(app)
    await buy(app, browser, { plan: 'basic' })
    await app.settled()
    const page = await browser.open(await ask(app, browser, 'billing-portal', { returnUrl: '/account' }))
    expect(page.status).toBe(200)
    expect(page.html).toContain('Basic')
    expect(page.html).toContain(`href="${app.url}/account"`)
  })
})

async function signUp(app: AuthApplication): Promise<Browser> {
  const browser = new Browser()
  const person = { email: 'ada@example.com', name: 'Ada', password: 'correct horse battery' }
  const { status, body } = await browser.call(`${app.url}/api/auth/sign-up/email`, person)
  expect(status, JSON.stringify(body)).toBe(200)
  return browser
}

/** Asks the plugin for something that ends on a page of Stripe's; answers the page's address. */
async function ask(app: AuthApplication, browser: Browser, action: string, wish: Record<string, unknown>): Promise<string> {
  const { status, body } = await browser.call(`${app.url}/api/auth/subscription/${action}`, wish)
  expect(status, JSON.stringify(body)).toBe(200)
  return String(body['url'])
}

/** Asks for a plan, and fills in the hosted checkout page with a card. */
async function buy(app: AuthApplication, browser: Browser, order: Record<string, unknown>, card = goodCard): Promise<View> {
  const page = await browser.open(await ask(app, browser, 'upgrade', { successUrl: '/welcome', cancelUrl: '/prices', ...order }))
  return browser.submit(page, { email: 'ada@example.com', ...card })
}

/** Opens a page of the portal and says yes. */
async function confirm(browser: Browser, url: string): Promise<View> {
  return browser.submit(await browser.open(url))
}

async function onlySubscription(app: AuthApplication) {
  const { data } = await app.stripe.subscriptions.list({ status: 'all' })
  expect(data).toHaveLength(1)
  return data[0]!
}

function date(unixSeconds: number | undefined): Date {
  return new Date((unixSeconds ?? 0) * 1000)
}
