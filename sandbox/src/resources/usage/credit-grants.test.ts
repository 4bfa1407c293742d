import { expect, test } from 'vitest'
import { NOW, startTestSandbox } from '../../../test/contract.ts'

async function withCustomer() {
  const started = await startTestSandbox()
  const customer = await started.stripe.customers.create()
  const grant = (value: number, more: { expires_at?: number; effective_at?: number; priority?: number } = {}) =>
    started.stripe.billing.creditGrants.create({
      customer: customer.id,
      amount: { type: 'monetary', monetary: { currency: 'usd', value } },
      applicability_config: { scope: { price_type: 'metered' } },
      category: 'promotional',
      ...more,
    })
  const balance = async () => {
    const summary = await started.stripe.billing.creditBalanceSummaries.retrieve({
      customer: customer.id,
      filter: { type: 'applicability_scope', applicability_scope: { price_type: 'metered' } },
    })
    return summary.balances.map((entry) => entry.available_balance.monetary?.value)
  }
  return { ...started, customer, grant, balance }
}

test('grants add up, count only once in force, and expire by themselves', async () => {
  const { grant, balance, sandbox, stripe, customer } = await withCustomer()
  await grant(1000, { expires_at: NOW + 3600 })
  await grant(500, { effective_at: NOW + 1800 })
  expect(await balance()).toEqual([1000])
  sandbox.advanceTo(NOW + 1800)
  expect(await balance()).toEqual([1500])
  sandbox.advanceTo(NOW + 3600)
  expect(await balance()).toEqual([500])
  const ledger = await stripe.billing.creditBalanceTransactions.list({ customer: customer.id })
  expect(ledger.data.map((entry) => entry.credit?.type ?? entry.debit?.type)).toEqual([
    'credits_expired',
    'credits_granted',
    'credits_granted',
  ])
  expect(ledger.data[0]?.created).toBe(NOW + 3600)
})

test('a grant is expired or voided on request, and then cannot change', async () => {
  const { grant, balance, stripe } = await withCustomer()
  const first = await grant(1000)
  expect(await stripe.billing.creditGrants.expire(first.id)).toMatchObject({ expires_at: NOW })
  await expect(stripe.billing.creditGrants.expire(first.id)).rejects.toMatchObject({ statusCode: 400 })
  const second = await grant(700)
  expect(await stripe.billing.creditGrants.voidGrant(second.id)).toMatchObject({ voided_at: NOW })
  expect(await balance()).toEqual([0])
  await expect(stripe.billing.creditGrants.update(second.id, { expires_at: NOW + 100 })).rejects.toMatchObject({
    statusCode: 400,
  })
})

test('each grant is announced with its transaction', async () => {
  const { grant, eventTypes } = await withCustomer()
  await grant(1)
  expect(eventTypes(1)).toEqual(['billing.credit_grant.created', 'billing.credit_balance_transaction.created'])
})
