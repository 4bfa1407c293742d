import { describe, expect, test } from 'vitest'
import { USE_CATALOG } from '../../test/use-catalog.ts'
import { testUse } from '../../test/used.ts'
import { startClock } from '../../test/test-clocks.ts'
import { parseQuantity } from '../lib/quantity.ts'
import { reportNow } from './actions.ts'
import { readStatement } from './statement.ts'

const billing = testUse(USE_CATALOG)

type Line = { readonly amount: number; readonly description: string; readonly start: string; readonly end: string }

/** The lines of an organization's invoices at Stripe, oldest invoice first. */
async function invoicesOf(id: string): Promise<{ total: number; status: string; lines: Line[] }[]> {
  const { rows } = await billing.database.db.query<{ stripe_customer_id: string }>(
    'select stripe_customer_id from organizations where id = $1',
    [id],
  )
  return billing.sandbox
    .all('invoice')
    .filter(({ customer }) => customer === rows[0]!.stripe_customer_id)
    .sort((a, b) => a.created - b.created)
    .map(({ total, status, _: { lines } }) => ({
      total,
      status: status ?? 'draft',
      lines: lines.map((line) => ({
        amount: line.amount,
        description: line.description ?? '',
        start: new Date(line.period.start * 1000).toISOString(),
        end: new Date(line.period.end * 1000).toISOString(),
      })),
    }))
}

const statementOf = (organizationId: string, at: Date | null = null) => readStatement(billing.context, { organizationId, at })

describe('overage', () => {
  test('is on the invoice at the end of the period, and nothing of what is included', async () => {
    const id = await billing.customer('starter')
    const began = await billing.nowOf(id)
    await billing.use(id, 'calls', 185)
    await billing.use(id, 'tokens', 1001)
    const running = await statementOf(id)
    expect(running).toMatchObject({ totalMinor: 1000 + 60 + 20, isFinal: false, base: [{ amountMinor: 1000, quantity: 1 }] })
    expect(running.usage.find(({ balanceKey }) => balanceKey === 'calls')).toMatchObject({
      quantity: parseQuantity(85),
      included: { amount: parseQuantity(100), used: parseQuantity(100) },
      amountMinor: 60,
      invoiceId: null,
    })

    await billing.advance(id, '32d')
    const [, invoice] = await invoicesOf(id)
    expect(invoice).toMatchObject({ status: 'paid', total: 1000 + 60 + 20 })
    expect(await statementOf(id, began)).toMatchObject({ totalMinor: 1080, isFinal: true, usage: [{}, {}, {}] })
    expect(await statementOf(id)).toMatchObject({ totalMinor: 1000, isFinal: false })
  })

  test('that is corrected is taken back, down to nothing', async () => {
    const id = await billing.customer('starter')
    await billing.use(id, 'calls', 185, { key: 'too much' })
    await reportNow(billing.context, id)
    await billing.correct(id, 'too much', -50)
    await billing.advance(id, '32d')
    expect((await invoicesOf(id))[1]).toMatchObject({ total: 1000 + 25 })
  })

  test('of a level is what the level was last, however often it was told', async () => {
    const id = await billing.customer('starter')
    for (const level of [3, 7, 4]) {
      await billing.use(id, 'agents', level)
      await billing.advance(id, '1m')
    }
    await billing.advance(id, '32d')
    expect((await invoicesOf(id))[1]).toMatchObject({ total: 1000 + 3 * 500 })
  })

  test('of a yearly plan is invoiced by the month', async () => {
    const id = await billing.customer('starter', 'yearly')
    await billing.use(id, 'calls', 200)
    await billing.advance(id, '32d')
    await billing.use(id, 'calls', 300)
    await billing.advance(id, '31d')
    expect((await invoicesOf(id)).map(({ total }) => total)).toEqual([10_000, 70, 140])
  })

  test('of a trial is free, and counts from its end on', async () => {
    const id = await billing.createOrganization('trying')
    await startClock(billing.context, id)
    await billing.call(id, 'POST', '/api/v1/billing/subscribe', { tier: 'starter' })
    await billing.use(id, 'calls', 500)
    await billing.call(id, 'POST', '/api/v1/billing/payment-methods', { payment_method_id: 'pm_card_visa' })
    await billing.advance(id, '15d')
    await billing.use(id, 'calls', 110)
    await billing.advance(id, '32d')
    expect((await invoicesOf(id)).map(({ total }) => total)).toEqual([0, 1000, 1007])
  })

  test('from before a subscription is free, also when it is told after it began', async () => {
    const id = await billing.createOrganization('late')
    await startClock(billing.context, id)
    await billing.use(id, 'calls', 5)
    const before = await billing.nowOf(id)
    await billing.advance(id, '1d')
    const body = { tier: 'starter', payment_method_id: 'pm_card_visa' }
    expect((await billing.call(id, 'POST', '/api/v1/billing/subscribe', body)).status).toBe(200)
    expect(await billing.use(id, 'calls', 500, { occurredAt: before })).toMatchObject({ late: 'free' })
    await billing.use(id, 'calls', 110)
    expect(await statementOf(id)).toMatchObject({ totalMinor: 1007 })
    await billing.advance(id, '32d')
    expect((await invoicesOf(id))[1]).toMatchObject({ total: 1007 })
  })
})

describe('a plan that changes', () => {
  test('bills what was used until then at the old price, and what is used after at the new one', async () => {
    const id = await billing.customer('starter')
    const began = await billing.nowOf(id)
    await billing.use(id, 'calls', 130)
    await billing.advance(id, '10d')
    const changed = await billing.nowOf(id)
    await billing.call(id, 'POST', '/api/v1/billing/upgrade', { new_tier: 'pro' })
    // 130 are used of pro's 200: 30 of them were overage and stay so. 100 more fit, 40 are overage at pro's price.
    await billing.use(id, 'calls', 140)
    await billing.advance(id, '22d')
    const lines = (await invoicesOf(id)).flatMap((invoice) => invoice.lines)
    expect(lines).toContainEqual(expect.objectContaining({ amount: 21, start: began.toISOString(), end: changed.toISOString() }))
    const { usage, adjustments } = await statementOf(id, began)
    const calls = usage.filter(({ balanceKey }) => balanceKey === 'calls')
    expect(calls.map(({ amountMinor, period }) => [amountMinor, period.start])).toEqual([
      [21, began],
      [20, changed],
    ])
    expect(adjustments).toHaveLength(2)
  })

  test('that is cancelled now bills what was used', async () => {
    const id = await billing.customer('starter')
    await billing.use(id, 'calls', 200)
    await billing.advance(id, '3d')
    await billing.call(id, 'POST', '/api/v1/billing/cancel', { immediate: true })
    expect((await invoicesOf(id)).map(({ total }) => total)).toEqual([1000, 70])
  })

  test('at the end of the period bills the period at the old price', async () => {
    const id = await billing.customer('pro')
    await billing.use(id, 'calls', 260)
    const answer = await billing.call(id, 'POST', '/api/v1/billing/downgrade', { new_tier: 'starter', at: 'period_end' })
    expect(answer.status, JSON.stringify(answer.body)).toBe(200)
    await billing.advance(id, '32d')
    expect((await invoicesOf(id))[1]).toMatchObject({ total: 1000 + 30 })
    await billing.use(id, 'calls', 110)
    await billing.advance(id, '31d')
    expect((await invoicesOf(id))[2]).toMatchObject({ total: 1000 + 7 })
  })
})

test('use of a month whose invoice could not be paid is billed with the next one', async () => {
  const id = await billing.customer('starter')
  const pay = (method: string) => billing.succeed(id, 'payment-methods', { payment_method_id: method })
  await pay('pm_card_chargeCustomerFail')
  await billing.advance(id, '32d')
  expect(await billing.subscriptionOf(id)).toMatchObject({ status: 'past_due' })
  await billing.use(id, 'calls', 150)
  expect(await statementOf(id)).toMatchObject({ totalMinor: 1035 })
  await pay('pm_card_visa')
  await billing.advance(id, '31d')
  expect((await invoicesOf(id)).map(({ total }) => total)).toEqual([1000, 1000, 1035])
})

describe('the end of a period', () => {
  test('takes use to its last second, also what is told while the invoice is a draft', async () => {
    const id = await billing.customer('starter')
    const began = await billing.nowOf(id)
    const { period } = await statementOf(id)
    await billing.use(id, 'calls', 110)
    await billing.advance(id, `${Math.ceil((period.end.getTime() - began.getTime()) / 60_000) + 1}m`)
    await billing.use(id, 'calls', 10, { occurredAt: new Date(period.end.getTime() - 1) })
    await billing.advance(id, '2h')
    expect((await invoicesOf(id))[1]).toMatchObject({ total: 1000 + 14, status: 'paid' })
  })

  test('closed, puts what is told later onto the next invoice, and says so', async () => {
    const id = await billing.customer('starter')
    const { period } = await statementOf(id)
    await billing.use(id, 'calls', 110)
    await billing.advance(id, '33d')
    await billing.use(id, 'calls', 10, { occurredAt: new Date(period.end.getTime() - 1) })
    const { usage } = await statementOf(id)
    expect(usage[0]).toMatchObject({ balanceKey: 'agents' })
    expect(usage[1]).toMatchObject({ quantity: parseQuantity(10), lateQuantity: parseQuantity(10) })
    await billing.advance(id, '31d')
    expect((await invoicesOf(id)).slice(1).map(({ total }) => total)).toEqual([1007, 1007])
    const next = await statementOf(id, new Date(period.end.getTime() + 1))
    expect(next.usage.find(({ balanceKey }) => balanceKey === 'calls')).toMatchObject({ lateQuantity: parseQuantity(10) })
  })
})
