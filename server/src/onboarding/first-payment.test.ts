import { beforeAll, expect, test } from 'vitest'
import { testSubscriptions } from '../../test/subscriptions.ts'

// Tenants whose subscription is paid from the first day: there is no trial.

const billing = testSubscriptions({ webhooks: false, policy: { trialDays: 0 } })
let priceId = ''

beforeAll(async () => {
  priceId = await billing.priceOf('pro')
})

type Step = { readonly status: number; readonly data: Record<string, string>; readonly body: Record<string, unknown> }

async function take(path: string, body: Record<string, unknown>): Promise<Step> {
  const answer = await billing.call('operator', 'POST', `/api/v1/onboarding/${path}`, body)
  return { ...answer, data: (answer.body['data'] ?? {}) as Record<string, string> }
}

/** Up to the plan, with the card that the tenant gave in the browser. */
async function chosen(card: string): Promise<{ session_id: string; tenant_id: string }> {
  const started = await take('start', { email: 'kali@example.com', name: 'Kali', company_name: 'Forensics' })
  const { session_id, tenant_id } = started.data as { session_id: string; tenant_id: string }
  await take('step/create-customer', { session_id })
  const { setup_intent_id } = (await take('step/setup-payment', { session_id })).data
  await billing.stripe.setupIntents.confirm(setup_intent_id!, { payment_method: card, return_url: 'http://localhost:3000/done' })
  await take('step/select-plan', { session_id, plan_id: 'pro', price_id: priceId })
  return { session_id, tenant_id }
}

test('the card that was set up in the browser pays for the subscription', async () => {
  const { session_id } = await chosen('pm_card_visa')
  expect(await take('step/create-subscription', { session_id })).toMatchObject({ status: 200, data: { status: 'active' } })
  expect(await take('complete', { session_id })).toMatchObject({ status: 200, data: { status: 'completed' } })
})

test('a subscription whose first payment was never made is made again before the end', async () => {
  const { session_id, tenant_id } = await chosen('pm_card_visa')
  const method = (payment_method_id: string) =>
    billing.call('operator', 'POST', '/api/v1/billing/payment-methods', { organization_id: tenant_id, payment_method_id })
  await method('pm_card_authenticationRequired')
  expect(await take('step/create-subscription', { session_id })).toMatchObject({ data: { status: 'incomplete' } })
  billing.sandbox.advanceTo(Math.floor(Date.now() / 1000) + 25 * 3600)
  await billing.call('operator', 'POST', `/api/v1/organizations/${tenant_id}/reconcile`)
  expect(await take('complete', { session_id })).toMatchObject({
    status: 409,
    body: { code: 'conflict', next_step: 'create_subscription' },
  })
  await method('pm_card_visa')
  expect(await take('step/create-subscription', { session_id })).toMatchObject({ data: { status: 'active' } })
  expect(await take('complete', { session_id })).toMatchObject({ status: 200, data: { status: 'completed' } })
})
