import { beforeAll, describe, expect, test } from 'vitest'
import { testRoutes } from '../../test/routes.ts'
import { testSubscriptions } from '../../test/subscriptions.ts'
import { mayTake, type OnboardingStep } from './rules.ts'
import { registerTenantRoutes } from './tenant-routes.ts'

const billing = testSubscriptions({ webhooks: false })
const withoutStripe = testRoutes((app) => registerTenantRoutes(app, billing.with({ gateway: null }), null as never))
let priceId = ''

beforeAll(async () => {
  priceId = await billing.priceOf('pro')
})

type Data = Record<string, string | null>

async function step(
  path: string,
  body: Record<string, unknown>,
): Promise<{ status: number; body: Record<string, unknown>; data: Data }> {
  const answer = await billing.call('operator', 'POST', `/api/v1/onboarding/${path}`, body)
  return { ...answer, data: (answer.body['data'] ?? {}) as Data }
}

const start = (company: string) =>
  step('start', { email: 'kali@example.com', name: 'Kali', company_name: company, phone: '+1 555 0100' })

describe('KF-4 onboarding', () => {
  test('walks six steps to a tenant with a customer, a card and a subscription in its trial', async () => {
    await billing.call('operator', 'POST', '/api/v1/billing/discounts', { code: 'WELCOME', percent_off: 10, duration: 'once' })
    const started = await start('Forensics')
    expect(started).toMatchObject({
      status: 200,
      body: { success: true },
      data: { status: 'started', next_step: 'create_customer' },
    })
    const { session_id, tenant_id } = started.data
    expect(tenant_id).toMatch(/^Jeturing_[0-9a-f-]{36}$/)

    const customer = await step('step/create-customer', { session_id })
    expect(customer.data).toMatchObject({ next_step: 'setup_payment', customer_id: expect.stringMatching(/^cus_/) as string })
    const payment = await step('step/setup-payment', { session_id, return_url: 'http://localhost:3000/done' })
    expect(payment.data).toMatchObject({ next_step: 'select_plan', setup_intent_id: expect.stringMatching(/^seti_/) as string })
    expect(payment.data['client_secret']).toContain(payment.data['setup_intent_id'])
    expect(payment.data['publishable_key']).toBe('pk_test_tollgate')
    // What Stripe's form does in the browser.
    await billing.stripe.setupIntents.confirm(payment.data['setup_intent_id']!, {
      payment_method: 'pm_card_visa',
      return_url: 'http://localhost:3000/done',
    })

    const plan = await step('step/select-plan', { session_id, plan_id: 'pro', price_id: priceId, discount_code: 'welcome' })
    expect(plan.data).toMatchObject({ next_step: 'create_subscription', discount_code: 'WELCOME' })
    const subscribed = await step('step/create-subscription', { session_id })
    expect(subscribed.data, JSON.stringify(subscribed.body)).toMatchObject({ next_step: 'complete', status: 'trialing' })
    const completed = await step('complete', { session_id })
    expect(completed.data).toMatchObject({
      tenant_id,
      customer_id: customer.data['customer_id'],
      subscription_id: subscribed.data['subscription_id'],
      status: 'completed',
    })
    expect(completed.data['message']).not.toBe('')

    const status = await billing.call('operator', 'GET', `/api/v1/billing/status/tenant/${tenant_id}`)
    expect(status.body).toMatchObject({
      tenant_id,
      customer_id: customer.data['customer_id'],
      has_active_subscription: true,
      subscription_status: 'trialing',
      is_delinquent: false,
      outstanding_balance_cents: 0,
      next_invoice_amount_cents: 2610,
      payment_method_configured: true,
    })
    const secrets = await billing.database.db.query(`select 1 from stripe_intents where result::text like '%_secret_%'`)
    expect(secrets.rows).toEqual([])
  })

  test('begins once under a key, and answers alike', async () => {
    const begin = (company: string, phone?: string) => {
      const body = { email: 'kali@example.com', name: 'Kali', company_name: company, phone }
      return billing.call('operator', 'POST', '/api/v1/onboarding/start', body, { 'idempotency-key': 'begun' })
    }
    const [first, atOnce] = await Promise.all([begin('Keyed'), begin('Keyed')])
    expect(first).toMatchObject({ status: 200, body: { data: { status: 'started' } } })
    expect((first.body['data'] as Data)['tenant_id']).toMatch(/^Jeturing_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
    expect(atOnce.body).toEqual(first.body)
    await step('step/create-customer', { session_id: (first.body['data'] as Data)['session_id'] })
    expect((await begin('Keyed')).body).toEqual(first.body)
    expect(await begin('Another')).toMatchObject({ status: 409, body: { code: 'idempotency_conflict', field: 'company_name' } })
    expect(await begin('Keyed', '+1')).toMatchObject({ status: 409, body: { code: 'idempotency_conflict', field: 'phone' } })
  })

  test.each([{ headers: {} }, { headers: { 'idempotency-key': 'half' } }])(
    'a start that is killed before the session is there leaves no tenant, and its repeat makes one ($headers)',
    async ({ headers }) => {
      const { db } = billing.database
      const body = { email: 'kali@example.com', name: 'Kali', company_name: 'Half' }
      const begin = () => billing.call('operator', 'POST', '/api/v1/onboarding/start', body, headers)
      const tenants = async () => (await db.query(`select id from organizations where name = 'Half'`)).rows
      const before = (await tenants()).length
      await db.query(
        `create function die() returns trigger language plpgsql security definer as $$ begin perform pg_terminate_backend(pg_backend_pid()); return new; end $$;
         create trigger die before insert on onboarding_sessions for each row execute function die()`,
      )
      expect((await begin()).status).toBe(503)
      await db.query('drop function die cascade')
      expect(await tenants()).toHaveLength(before)
      expect(await begin()).toMatchObject({ status: 200, body: { data: { next_step: 'create_customer' } } })
      expect(await tenants()).toHaveLength(before + 1)
    },
  )

  test('refuses a step out of order and names the one that is due', async () => {
    const { session_id } = (await start('Hasty')).data
    const early = await step('step/create-subscription', { session_id })
    expect(early).toMatchObject({ status: 409, body: { code: 'conflict', next_step: 'create_customer' } })
    await step('step/create-customer', { session_id })
    expect(await step('complete', { session_id })).toMatchObject({ status: 409, body: { next_step: 'setup_payment' } })
    expect((await step('complete', { session_id: 'onb_nowhere' })).status).toBe(404)
  })

  test('a step whose answer was lost answers the same again, and nothing is made twice', async () => {
    const { session_id, tenant_id } = (await start('Lost')).data
    const twice = async (path: string, body: Record<string, unknown> = {}) => {
      const first = await step(path, { session_id, ...body })
      expect(first.status, JSON.stringify(first.body)).toBe(200)
      return [first.data, (await step(path, { session_id, ...body })).data] as const
    }
    const same = async (path: string, body?: Record<string, unknown>) => {
      const [first, second] = await twice(path, body)
      expect(second).toEqual(first)
    }
    await same('step/create-customer')
    const [form, again] = await twice('step/setup-payment')
    expect(again['client_secret']).not.toBe(form['client_secret'])
    await same('step/select-plan', { plan_id: 'PRO', price_id: priceId })
    await same('step/create-subscription')
    await same('complete')
    for (const earlier of ['step/create-customer', 'step/setup-payment', 'step/create-subscription']) {
      expect(await step(earlier, { session_id })).toMatchObject({ status: 409, body: { next_step: 'completed' } })
    }
    const made = (kind: string) =>
      billing.sandbox.all(kind as 'customer').filter(({ metadata }) => metadata['tollgate_organization'] === tenant_id)
    expect([made('customer').length, made('subscription').length]).toEqual([1, 1])
    const audited = await billing.database.db.query(
      `select 1 from audit_log where organization_id = $1 and action = 'onboarding.completed'`,
      [tenant_id],
    )
    expect(audited.rows).toHaveLength(1)
  })

  test('takes no subscription for its own that it did not make', async () => {
    const { session_id, tenant_id } = (await start('Taken')).data
    await step('step/create-customer', { session_id })
    await step('step/setup-payment', { session_id })
    await step('step/select-plan', { session_id, plan_id: 'pro', price_id: priceId, discount_code: 'welcome' })
    const other = { tenant_id, price_id: priceId, trial_period_days: 30 }
    expect((await billing.call('operator', 'POST', '/api/v1/billing/subscriptions', other)).status).toBe(200)
    expect(await step('step/create-subscription', { session_id })).toMatchObject({
      status: 409,
      body: { code: 'subscription_exists' },
    })
    expect(await step('complete', { session_id })).toMatchObject({ status: 409, body: { next_step: 'create_subscription' } })
  })

  test('of a choice and its purchase at once, what was bought is what was chosen then', async () => {
    const starter = await billing.priceOf('starter')
    const { session_id } = (await start('Undecided')).data
    await step('step/create-customer', { session_id })
    await step('step/setup-payment', { session_id })
    const choose = (plan: string, price: string) => step('step/select-plan', { session_id, plan_id: plan, price_id: price })
    await choose('pro', priceId)
    const [chosen, bought] = await Promise.all([choose('starter', starter), step('step/create-subscription', { session_id })])
    expect(bought.status).toBe(200)
    expect([200, 409]).toContain(chosen.status)
    expect(bought.data['plan_id']).toBe(chosen.status === 200 ? 'starter' : 'pro')
  })

  test('several at the same time complete it once', async () => {
    const { session_id, tenant_id } = (await start('Crowd')).data
    await step('step/create-customer', { session_id })
    await step('step/setup-payment', { session_id })
    await step('step/select-plan', { session_id, plan_id: 'pro', price_id: priceId })
    const made = await Promise.all([1, 2, 3].map(() => step('step/create-subscription', { session_id })))
    expect(new Set(made.map(({ data }) => data['subscription_id'])).size, JSON.stringify(made)).toBe(1)
    const completed = await Promise.all([1, 2, 3].map(() => step('complete', { session_id })))
    expect(completed.map(({ status }) => status)).toEqual([200, 200, 200])
    const audited = await billing.database.db.query(
      `select 1 from audit_log where organization_id = $1 and action = 'onboarding.completed'`,
      [tenant_id],
    )
    expect(audited.rows).toHaveLength(1)
  })

  test('is not complete while the bank asks the customer about the first payment', async () => {
    const { session_id, tenant_id } = (await start('Asked')).data
    await step('step/create-customer', { session_id })
    await step('step/setup-payment', { session_id })
    await billing.call('operator', 'POST', `/api/v1/billing/payment-methods`, {
      organization_id: tenant_id,
      payment_method_id: 'pm_card_authenticationRequired',
    })
    await billing.database.db.query(
      // The trial of this tenant is behind it.
      `insert into stripe_subscriptions (organization_id, id, customer_id, status, currency, collection_method, cancel_at_period_end,
         trial_end, ended_at, created_at, data, refreshed_at)
       select id, 'sub_before', stripe_customer_id, 'canceled', 'usd', 'charge_automatically', false,
         now() - interval '1 day', now() - interval '1 day', now() - interval '20 days', '{}', now() from organizations where id = $1`,
      [tenant_id],
    )
    await step('step/select-plan', { session_id, plan_id: 'pro', price_id: priceId })
    const waiting = await step('step/create-subscription', { session_id })
    expect(waiting.data, JSON.stringify(waiting.body)).toMatchObject({
      status: 'incomplete',
      requires_action: true,
      plan_id: 'pro',
    })
    expect(waiting.data['payment_url']).toMatch(/^http/)
    expect(await step('complete', { session_id })).toMatchObject({
      status: 409,
      body: { next_step: 'complete', payment_url: waiting.data['payment_url'] },
    })
    expect((await step('step/create-subscription', { session_id })).data).toEqual(waiting.data)
  })

  test('refuses a price that does not sell the plan, and leads nobody elsewhere', async () => {
    const { session_id } = (await start('Picky')).data
    await step('step/create-customer', { session_id })
    expect((await step('step/setup-payment', { session_id, return_url: 'https://evil.example/' })).status).toBe(400)
    await step('step/setup-payment', { session_id })
    expect((await step('step/select-plan', { session_id, plan_id: 'starter', price_id: priceId })).body['code']).toBe(
      'unknown_price',
    )
    expect((await step('step/select-plan', { session_id, plan_id: 'pro', price_id: 'price_foreign' })).body['code']).toBe(
      'unknown_price',
    )
  })

  test('is for operators', async () => {
    const body = { email: 'a@example.com', name: 'A', company_name: 'A' }
    await billing.createOrganization('somebody')
    expect((await billing.call('nobody', 'POST', '/api/v1/onboarding/start', body)).status).toBe(401)
    expect((await billing.call('somebody', 'POST', '/api/v1/onboarding/start', body)).status).toBe(403)
  })

  test('only the step taken last may be taken again', () => {
    const steps: OnboardingStep[] = ['create_customer', 'setup_payment', 'select_plan', 'create_subscription', 'complete']
    const allowed = steps.flatMap((taken) =>
      [...steps, 'completed' as const].filter((due) => mayTake(taken, due)).map((due) => `${taken} while ${due}`),
    )
    expect(allowed).toEqual([
      'create_customer while create_customer',
      'create_customer while setup_payment',
      'setup_payment while setup_payment',
      'setup_payment while select_plan',
      'select_plan while select_plan',
      'select_plan while create_subscription',
      'create_subscription while create_subscription',
      'create_subscription while complete',
      'complete while complete',
      'complete while completed',
    ])
  })
})

describe('tenants', () => {
  test('KF-5 a customer is made with its tenant, once', async () => {
    const body = { tenant_id: 'Jeturing_1', email: 'kf@example.com', name: 'KF' }
    const made = await billing.call('operator', 'POST', '/api/v1/billing/customers', body)
    expect(made).toMatchObject({ status: 200, body: { success: true, tenant_id: 'Jeturing_1' } })
    const again = await billing.call('operator', 'POST', '/api/v1/billing/customers', body)
    expect(again.body['customer_id']).toBe(made.body['customer_id'])
    for (const [field, value] of [
      ['email', 'x@y.example'],
      ['name', 'X'],
    ] as const) {
      const other = await billing.call('operator', 'POST', '/api/v1/billing/customers', { ...body, [field]: value })
      expect(other).toMatchObject({
        status: 409,
        body: { code: 'conflict', field, detail: expect.stringContaining(body[field]) },
      })
    }
    const still = await billing.call('operator', 'POST', '/api/v1/billing/customers', body)
    expect(still.body).toMatchObject({ email: 'kf@example.com', name: 'KF', data: { name: 'KF' } })
    expect((await billing.call('operator', 'POST', '/api/v1/billing/customers', { ...body, tenant_id: 'a b/c' })).status).toBe(
      400,
    )
    expect(
      (await billing.call('somebody', 'POST', '/api/v1/billing/customers', { ...body, tenant_id: 'Jeturing_2' })).status,
    ).toBe(404)
  })

  test('KF-5 without Stripe makes no tenant either', async () => {
    const body = { tenant_id: 'Jeturing_none', email: 'kf@example.com', name: 'KF' }
    expect(await withoutStripe('POST', '/api/v1/billing/customers', body)).toMatchObject({ status: 503 })
    const { rows } = await billing.database.db.query(`select 1 from organizations where id = 'Jeturing_none'`)
    expect(rows).toEqual([])
  })

  test('KF-6 a subscription to a price, with a trial, for the tenant’s own customer only', async () => {
    const { customer_id } = (
      await billing.call('operator', 'POST', '/api/v1/billing/customers', {
        tenant_id: 'Jeturing_3',
        email: 'kf@example.com',
        name: 'KF',
      })
    ).body
    const body = { tenant_id: 'Jeturing_3', customer_id, price_id: priceId, trial_period_days: 30 }
    const foreign = await billing.call('operator', 'POST', '/api/v1/billing/subscriptions', { ...body, customer_id: 'cus_other' })
    expect(foreign.status).toBe(404)
    const started = await billing.call('operator', 'POST', '/api/v1/billing/subscriptions', body)
    expect(started, JSON.stringify(started.body)).toMatchObject({
      status: 200,
      body: { success: true, status: 'trialing', plan_id: 'pro', customer_id },
    })
    const days = (Date.parse(started.body['trial_ends_at'] as string) - Date.now()) / 86_400_000
    expect(days).toBeGreaterThan(29.9)
  })

  test('KF-6 under a key subscribes once, and answers alike whatever has been changed since', async () => {
    await billing.call('operator', 'POST', '/api/v1/billing/customers', {
      tenant_id: 'keyed',
      email: 'kf@example.com',
      name: 'KF',
    })
    const body = { tenant_id: 'keyed', price_id: priceId, trial_period_days: 7 }
    const subscribe = (parts = {}) =>
      billing.call('operator', 'POST', '/api/v1/billing/subscriptions', { ...body, ...parts }, { 'idempotency-key': 'once' })
    const first = await subscribe()
    expect(first).toMatchObject({ status: 200, body: { status: 'trialing' } })
    expect((await subscribe()).body).toEqual(first.body)
    expect(await subscribe({ trial_period_days: 9 })).toMatchObject({
      status: 409,
      body: { code: 'idempotency_conflict', field: 'trial_period_days' },
    })
    await billing.call('operator', 'POST', '/api/v1/billing/cancel', { organization_id: 'keyed', immediate: true })
    expect((await subscribe()).body).toEqual(first.body)
    expect(billing.sandbox.all('subscription').filter(({ customer }) => customer === first.body['customer_id'])).toHaveLength(1)
  })

  test('KF-9 a tenant without anything has a status too', async () => {
    await billing.createOrganization('bare')
    const status = await billing.call('bare', 'GET', '/api/v1/billing/status/tenant/bare')
    expect(status.body).toEqual({
      tenant_id: 'bare',
      customer_id: null,
      has_active_subscription: false,
      subscription_status: null,
      trial_ends_at: null,
      current_period_end: null,
      is_delinquent: false,
      currency: 'usd',
      outstanding_balance_cents: 0,
      outstanding_balances: {},
      next_invoice_amount_cents: 0,
      payment_method_configured: false,
    })
    expect((await billing.call('bare', 'GET', '/api/v1/billing/status/tenant/other')).status).toBe(404)
  })
})
