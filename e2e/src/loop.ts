import assert from 'node:assert/strict'
import { Stripe } from 'stripe'
import { createCaller, payOnPage, type Answer, type Body, type Caller } from './http.ts'
import { runCli, waitUntil, type Program } from './process.ts'

/** Everything a step needs. `tell` says in words what was done and seen. */
export type Loop = {
  readonly program: Program
  readonly operator: Caller
  readonly stripe: Stripe
  readonly tell: (line: string) => void
}

/** An organization made by the first step, with a caller that holds its key. */
export type Customer = { readonly organizationId: string; readonly key: string; readonly app: Caller }

export function createLoop(program: Program, tell: (line: string) => void): Loop {
  const sandbox = new URL(program.runtime.sandboxUrl)
  return {
    program,
    operator: createCaller(program.runtime.url, program.runtime.operatorKey),
    stripe: new Stripe('sk_test_tollgate', { host: sandbox.hostname, port: sandbox.port, protocol: 'http', telemetry: false }),
    tell,
  }
}

/** Step 1: the operator creates an organization on its own clock, and a key that is shown once. */
export async function createCustomer(loop: Loop, name: string): Promise<Customer> {
  const created = await loop.operator.post('/api/v1/organizations', { name, email: 'billing@example.com', test_clock: true })
  expectStatus(created, 201)
  const organizationId = text(created.body, 'id')
  const key = await loop.operator.post(`/api/v1/organizations/${organizationId}/api-keys`, {
    name: 'application',
    scopes: ['read', 'write', 'admin'],
  })
  expectStatus(key, 201)
  const listed = await loop.operator.get(`/api/v1/organizations/${organizationId}/api-keys`)
  assert.ok(!JSON.stringify(listed.body).includes(text(key.body, 'key')), 'a key is never shown again')
  const wrong = await createCaller(loop.program.runtime.url, `${text(key.body, 'key')}x`).get('/api/v1/usage')
  expectStatus(wrong, 401)
  loop.tell(`Organization ${organizationId} has an API key, shown once; a wrong key answers 401.`)
  const shown = text(key.body, 'key')
  return { organizationId, key: shown, app: createCaller(loop.program.runtime.url, shown) }
}

/** Step 2: FREE's 100 credits, exact fractions, and two hundred callers for the last fifty. */
export async function useFreeQuota(loop: Loop, { app }: Customer): Promise<void> {
  const first = await consume(app, 'episode_ingestion', 39)
  assert.equal(first.body['credits_used'], 39)
  await Promise.all(Array.from({ length: 10 }, () => consume(app, 'episode_search', 1)))
  const fifth = await consume(app, 'reflection', 5)
  assert.equal(
    fifth.body['total_credits_used'],
    50,
    '39 ingestions, ten searches at 0.1 and five reflections at 2 are exactly 50',
  )
  loop.tell(
    `39 ingestions, 10 searches at 0.1 and 5 reflections at 2 cost exactly ${String(fifth.body['total_credits_used'])} credits.`,
  )
  loop.tell(`Headers: ${creditHeadersOf(fifth)}`)
  const answers = await Promise.all(Array.from({ length: 200 }, () => consume(app, 'episode_ingestion', 1)))
  const allowed = answers.filter((answer) => answer.body['allowed'] === true).length
  assert.equal(allowed, 50, '200 concurrent calls for the last 50 credits allow exactly 50')
  const refused = answers.find((answer) => answer.body['allowed'] === false)
  assert.equal(refused?.body['code'], 'quota_exceeded')
  const usage = await app.get('/api/v1/usage')
  assert.deepEqual(
    pick(usage.body, ['subscription_tier', 'credits_used', 'monthly_limit', 'quota_remaining', 'quota_exceeded']),
    {
      subscription_tier: 'FREE',
      credits_used: 100,
      monthly_limit: 100,
      quota_remaining: 0,
      quota_exceeded: true,
    },
  )
  loop.tell(`200 concurrent calls for the last 50 credits: ${allowed} allowed, ${200 - allowed} refused (quota_exceeded).`)
}

/** The host's own route behind the quota middleware: 429 with the body and the headers of EM-4 and EM-5. */
export async function hitTheWall(loop: Loop, { app }: Customer): Promise<void> {
  const answer = await app.post('/api/v1/capture', { text: 'one more' })
  expectStatus(answer, 429)
  assert.equal(answer.body['error'], 'quota_exceeded')
  assert.equal(answer.body['message'], 'Monthly quota exceeded. Used 100/100 credits.')
  assert.equal(answer.body['upgrade_url'], '/api/v1/billing/upgrade')
  loop.tell(`POST /api/v1/capture → 429 ${text(answer.body, 'message')}`)
  loop.tell(`Headers: ${creditHeadersOf(answer)}`)
}

/** Step 3: checkout on the hosted page, first with a card that declines; webhooks bring the plan. */
export async function buyPro(loop: Loop, { app }: Customer): Promise<void> {
  const checkout = await app.post('/api/v1/billing/checkout', { plan: 'pro' })
  expectStatus(checkout, 200)
  const url = text(checkout.body, 'url')
  const card = { email: 'billing@example.com', exp: '12/34', cvc: '123' }
  const declined = await payOnPage(url, { ...card, card_number: '4000000000000002' })
  assert.equal(declined.status, 402)
  assert.match(declined.html, /declined/i)
  loop.tell(`Checkout ${url}: card 4000 0000 0000 0002 is declined, and the page says so.`)
  const paid = await payOnPage(url, { ...card, card_number: '4242424242424242' })
  assert.equal(paid.status, 303, paid.html)
  await waitUntil(
    'the webhooks to make the plan PRO',
    10_000,
    async () => (await app.get('/api/v1/usage')).body['subscription_tier'] === 'PRO',
  )
  const usage = await app.get('/api/v1/usage')
  assert.equal(usage.body['monthly_limit'], 100_000)
  await waitUntil('the paid invoice to be mirrored', 40_000, async () => (await invoicesOf(app)).some(isPaidPro))
  loop.tell(
    `Card 4242…: 303 to ${String(paid.location)}; PRO with ${String(usage.body['monthly_limit'])} credits, an invoice of $29.00 paid.`,
  )
}

/** Step 4: the period and the hour of the draft pass on the organization's clock; the renewal is paid and the use starts again. */
export async function renew(loop: Loop, customer: Customer): Promise<void> {
  const { app } = customer
  await consume(app, 'episode_ingestion', 1234)
  const before = await app.get('/api/v1/usage')
  const used = before.body['credits_used']
  await nextPeriod(loop, customer)
  const paid = (await invoicesOf(app)).filter(isPaidPro)
  assert.equal(paid.length, 2, 'the renewal is a second paid invoice of $29')
  const usage = await app.get('/api/v1/usage')
  assert.equal(usage.body['credits_used'], 0)
  assert.equal(usage.body['subscription_tier'], 'PRO')
  loop.tell(`A day into the next period: renewal paid ($29.00), use ${String(used)} → ${String(usage.body['credits_used'])}.`)
}

/** Step 5: the card is replaced by one that declines; grace, suspension, recovery without a second quota. */
export async function failAndRecover(loop: Loop, customer: Customer): Promise<void> {
  const { app } = customer
  await replaceCard(app, 'pm_card_visa_chargeDeclinedInsufficientFunds')
  await nextPeriod(loop, customer)
  const grace = await app.get('/api/v1/usage')
  assert.equal(grace.body['status'], 'GRACE')
  const used = await consume(app, 'episode_ingestion', 500)
  assert.equal(used.body['allowed'], true, 'use goes on in the days of grace')
  loop.tell(`The next renewal fails (card …9995): status ${text(grace.body, 'status')}, use is still allowed.`)
  await advance(loop, customer, '3d')
  const refused = await consume(app, 'episode_ingestion', 1)
  assert.equal(refused.body['code'], 'suspended')
  assert.equal((await app.get('/api/v1/usage')).body['status'], 'SUSPENDED')
  loop.tell('Three days later: suspended; metered calls are refused.')
  await meetSuspension(loop, customer)
  await replaceCard(app, 'pm_card_visa')
  const open = (await invoicesOf(app)).find((invoice) => invoice['status'] === 'open')
  assert.ok(open, 'the failed renewal is an open invoice')
  expectStatus(await app.post(`/api/v1/billing/invoices/${text(open, 'id')}/pay`), 200)
  await waitUntil('the payment to reactivate', 40_000, async () => (await app.get('/api/v1/usage')).body['status'] === 'ACTIVE')
  const usage = await app.get('/api/v1/usage')
  assert.equal(usage.body['credits_used'], 500, 'paying for a cycle does not hand its quota out again')
  loop.tell(
    `The open invoice is paid: active again, and the ${String(usage.body['credits_used'])} credits used in grace still count.`,
  )
}

/** In the days of suspension the host's metered route answers 403 (EM-7). */
async function meetSuspension(loop: Loop, { app }: Customer): Promise<void> {
  const answer = await app.post('/api/v1/capture', { text: 'suspended' })
  expectStatus(answer, 403)
  loop.tell(`POST /api/v1/capture → 403 ${text(answer.body, 'message')}`)
}

/** Step 6: up, down and out, each with its preview first. */
export async function changePlans(loop: Loop, customer: Customer): Promise<void> {
  const { app } = customer
  const up = await app.post('/api/v1/billing/upgrade/preview', { new_tier: 'enterprise' })
  expectStatus(up, 200)
  loop.tell(`Preview of the upgrade to enterprise: ${describePreview(up.body)}`)
  const upgraded = await app.post('/api/v1/billing/upgrade', { new_tier: 'enterprise' })
  expectStatus(upgraded, 200)
  assert.equal(upgraded.body['tier'], 'ENTERPRISE')
  assert.equal((await app.get('/api/v1/usage')).body['subscription_tier'], 'ENTERPRISE')
  const down = await app.post('/api/v1/billing/downgrade/preview', { new_tier: 'starter' })
  expectStatus(down, 200)
  loop.tell(`Preview of the downgrade to starter: ${describePreview(down.body)}`)
  expectStatus(await app.post('/api/v1/billing/downgrade', { new_tier: 'starter' }), 200)
  const cancel = await app.post('/api/v1/billing/cancel/preview', { immediate: false })
  expectStatus(cancel, 200)
  const cancelled = await app.post('/api/v1/billing/cancel', { immediate: false })
  expectStatus(cancelled, 200)
  assert.equal(cancelled.body['status'], 'cancelled')
  loop.tell(`Cancelled at the period's end: ${text(cancelled.body, 'cancel_at')}.`)
  await nextPeriod(loop, customer)
  assert.equal((await app.get('/api/v1/usage')).body['subscription_tier'], 'FREE')
  loop.tell('After the period: FREE again.')
}

/** `subscribe` with a payment method does what the page did; here with a trial of 14 days, then cancelled at once. */
export async function subscribeWithTrial(loop: Loop, customer: Customer): Promise<void> {
  const { app } = customer
  const subscribed = await app.post('/api/v1/billing/subscribe', {
    tier: 'pro',
    trial_period_days: 14,
    payment_method_id: 'pm_card_visa',
  })
  expectStatus(subscribed, 200)
  assert.equal(subscribed.body['status'], 'trialing')
  assert.equal((await app.get('/api/v1/usage')).body['in_trial'], true)
  loop.tell(`Subscribed with a trial until ${text(subscribed.body, 'trial_end')}.`)
  await advance(loop, customer, '15d')
  const usage = await app.get('/api/v1/usage')
  assert.equal(usage.body['in_trial'], false)
  assert.equal(usage.body['status'], 'ACTIVE')
  const cancelled = await app.post('/api/v1/billing/cancel', { immediate: true })
  expectStatus(cancelled, 200)
  assert.equal((await app.get('/api/v1/usage')).body['subscription_tier'], 'FREE')
  loop.tell('The trial became paid; cancelled at once: FREE.')
}

/** What an operator's Prometheus sees of all this (EM-13). */
async function readMetrics(loop: Loop, { organizationId }: Customer): Promise<void> {
  const text = await (await fetch(`${loop.program.runtime.url}/metrics`)).text()
  const valueOf = (series: string): number =>
    Number(
      text
        .split('\n')
        .find((line) => line.startsWith(`${series} `))
        ?.split(' ')
        .at(-1),
    )
  // Checkout, renewal, the recovered renewal, the upgrade; the trial's first month was paid by the credit of the downgrade.
  assert.equal(valueOf('stripe_payments_succeeded_total'), 4)
  assert.ok(valueOf('stripe_payments_failed_total') >= 1, text)
  assert.ok(valueOf('quota_exceeded_total{tier="FREE"}') >= 151, text)
  assert.equal(valueOf(`credits_used_total{customer_id="${organizationId}"}`), 100 + 1234 + 500)
  loop.tell(
    `Metrics: ${valueOf('stripe_payments_succeeded_total')} payments succeeded, ${valueOf('stripe_payments_failed_total')} failed.`,
  )
}

/** Moves the organization's clock by CLI; it answers when everything that follows has been handled. */
async function advance(loop: Loop, { organizationId }: Customer, by: string): Promise<Body> {
  return runCli<Body>(loop.program, ['clock', 'advance', organizationId, '--by', by])
}

/** Moves it a day into the next period: 32 days later may be five days into it, past the days of grace. */
async function nextPeriod(loop: Loop, { app, organizationId }: Customer): Promise<void> {
  const { body } = await app.get('/api/v1/billing/subscription')
  const to = new Date(Date.parse(text(body, 'current_period_end')) + 24 * 3_600_000)
  await runCli<Body>(loop.program, ['clock', 'advance', organizationId, '--to', to.toISOString()])
}

export function consume(
  app: Caller,
  meter: string,
  quantity: number,
  idempotencyKey: string = crypto.randomUUID(),
): Promise<Answer> {
  return app.post('/api/v1/usage/consume', { meter, quantity, idempotency_key: idempotencyKey })
}

async function replaceCard(app: Caller, paymentMethodId: string): Promise<void> {
  expectStatus(await app.post('/api/v1/billing/payment-methods', { payment_method_id: paymentMethodId }), 200)
}

async function invoicesOf(app: Caller): Promise<readonly Body[]> {
  const answer = await app.get('/api/v1/billing/invoices?limit=50')
  expectStatus(answer, 200)
  return answer.body as unknown as readonly Body[]
}

function describePreview(preview: Body): string {
  const lines = preview['lines'] as readonly { description: string; amount_minor: number }[]
  const money = (minor: unknown): string => `${Number(minor) < 0 ? '-' : ''}$${(Math.abs(Number(minor)) / 100).toFixed(2)}`
  const parts = lines.map((line) => `${line.description} ${money(line.amount_minor)}`)
  return `due now ${money(preview['amount_due_now_minor'])} (${parts.join('; ')})`
}

function isPaidPro(invoice: Body): boolean {
  return invoice['status'] === 'paid' && invoice['amount_paid'] === 29
}

function expectStatus(answer: Answer, status: number): void {
  assert.equal(answer.status, status, JSON.stringify(answer.body))
}

function text(body: Body, field: string): string {
  const value = body[field]
  assert.equal(typeof value, 'string', `${field} of ${JSON.stringify(body)} is a string`)
  return value as string
}

function pick(body: Body, fields: readonly string[]): Body {
  return Object.fromEntries(fields.map((field) => [field, body[field]]))
}

function creditHeadersOf(answer: Answer): string {
  return [...answer.headers]
    .filter(([name]) => name.startsWith('x-credits') || name.startsWith('x-quota'))
    .map(([name, value]) => `${name}: ${value}`)
    .join(', ')
}

/** The whole loop, in the order in which a customer lives it. */
export async function runLoop(loop: Loop, heading: (title: string) => void = () => undefined): Promise<void> {
  heading('The operator creates an organization and its API key')
  const customer = await createCustomer(loop, 'Acme')
  heading('FREE: 100 credits a month')
  await useFreeQuota(loop, customer)
  await hitTheWall(loop, customer)
  heading('Checkout: FREE becomes PRO')
  await buyPro(loop, customer)
  heading('A month passes: renewal')
  await renew(loop, customer)
  heading('The card fails: grace, suspension, recovery')
  await failAndRecover(loop, customer)
  heading('Upgrade, downgrade, cancel, each with its preview')
  await changePlans(loop, customer)
  heading('Subscribe with a payment method and a trial')
  await subscribeWithTrial(loop, customer)
  await readMetrics(loop, customer)
}
