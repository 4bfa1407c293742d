import { describe, expect, test } from 'vitest'
import { testCredits } from '../../test/credits.ts'
import { giveDueCredits } from './credits.ts'
import { chargeDueLateUse } from './late-charges.ts'
import { readStatement, type Statement } from './statement.ts'

const billing = testCredits()
const { db } = billing.database

type Told = 'in time' | 'late'

/** 250 calls at the start, 80 on the third day, another plan on the fifth, 10 calls afterwards; answers who it is. */
async function changed(from: string, to: string, told: Told): Promise<{ id: string; key: string; third: Date }> {
  const id = await billing.customer(from)
  const key = `${id} third day`
  await billing.use(id, 'calls', 250)
  await billing.advance(id, '2d')
  const third = await billing.nowOf(id)
  if (told === 'in time') await billing.use(id, 'calls', 80, { key })
  await billing.advance(id, '2d')
  await billing.succeed(id, 'upgrade', { new_tier: to })
  await billing.use(id, 'calls', 10)
  await billing.advance(id, '1d')
  if (told === 'late') await billing.use(id, 'calls', 80, { key, occurredAt: third })
  return { id, key, third }
}

const statementOf = (id: string, at: Date | null = null): Promise<Statement> =>
  readStatement(billing.context, { organizationId: id, at })

/** What the use of a period costs, as its statement has it. */
async function useMinor(id: string, at: Date | null = null): Promise<number> {
  const { usage } = await statementOf(id, at)
  return usage.reduce((sum, { amountMinor, creditedMinor }) => sum + amountMinor - creditedMinor, 0)
}

async function answered(id: string, path: string): Promise<Record<string, unknown>> {
  const { status, body } = await billing.ask('GET', path, undefined, id)
  expect(status, JSON.stringify(body)).toBe(200)
  return body
}

const itemsOf = async (id: string) => {
  const customer = await billing.customerOf(id)
  return billing.sandbox.all('invoiceitem').filter((item) => item.customer === customer && item.metadata?.['tollgate_line'])
}

async function invoicesOf(id: string) {
  const customer = await billing.customerOf(id)
  return billing.sandbox.all('invoice').filter((invoice) => invoice.customer === customer && invoice.status !== 'void')
}

describe('use from before a change between two plans that both price it', () => {
  test.each([
    ['starter', 'pro', 161],
    ['pro', 'starter', 140],
  ])('%s to %s costs %i cents, told in time or after the change', async (from, to, minor) => {
    for (const told of ['in time', 'late'] as const) {
      const { id } = await changed(from, to, told)
      expect(await useMinor(id), told).toBe(minor)
    }
  })

  test('leaves what the present plan includes as it would be, and says that it comes on the next invoice', async () => {
    const { id, third } = await changed('starter', 'pro', 'in time')
    const inTime = await billing.use(id, 'calls', 0)
    const other = await changed('starter', 'pro', 'late')
    const late = await billing.use(other.id, 'calls', 0)
    for (const figure of ['amount', 'used', 'overage', 'remaining'] as const) {
      expect(late.balance[figure], figure).toBe(inTime.balance[figure])
    }
    expect(await billing.use(id, 'calls', 1, { occurredAt: third })).toMatchObject({ late: 'closed' })
  })

  test('is an item of the next invoice, told in the statement, KF-8, KF-9, OC-4 and the explanation of its line', async () => {
    const { id } = await changed('starter', 'pro', 'late')
    const period = (await statementOf(id)).period
    const query = `period_start=${period.start.toISOString()}&period_end=${period.end.toISOString()}`
    for (const isAsked of [false, true]) {
      if (isAsked) await chargeDueLateUse(billing.context)
      const summary = await answered(id, `/api/v1/billing/usage/tenant/${id}/summary?${query}`)
      expect(summary['usage']).toMatchObject({ calls: { quantity: 340, cost_cents: 161 } })
      expect(await answered(id, '/api/v1/billing/usage')).toMatchObject({
        credits: { overage: 230, overage_cost: 1.61, free_overage: 0 },
      })
      const { body } = await billing.call(id, 'GET', `/api/v1/billing/status/tenant/${id}`)
      // Pro, and the 80; what starter's line had counted is on the invoice of the change.
      expect(body['next_invoice_amount_cents'], `asked: ${isAsked}`).toBe(3000 + 56)
    }
    const [item] = await itemsOf(id)
    expect(item).toMatchObject({
      amount: 56,
      description: '80 × calls told late, of 2026-03-10 to 2026-03-14',
      discountable: true,
    })

    const late = (await statementOf(id)).usage.find(({ lateOf }) => lateOf !== null)!
    expect(late).toMatchObject({ planKey: 'starter', quantity: 80_000_000n, lateQuantity: 80_000_000n, amountMinor: 56 })
    const explained = await answered(id, `/api/v1/billing/statement/lines/${encodeURIComponent(late.id)}`)
    expect(explained).toMatchObject({ line: { late_of: late.lateOf, late_quantity: 80, amount_minor: 56 } })
    const [grant] = explained['grants'] as { bills: { line: string; quantity: number; late: boolean }[] }[]
    expect(grant!.bills.find(({ line }) => line === late.id)).toMatchObject({ quantity: 80, late: true })

    await billing.advance(id, '33d')
    const statement = await statementOf(id, period.start)
    expect(statement.isFinal).toBe(true)
    const linked = statement.usage.find(({ lateOf }) => lateOf !== null)!
    const invoices = await invoicesOf(id)
    expect(invoices.find((invoice) => invoice.id === linked.invoiceId)?._.lines.some((line) => line.amount === 56)).toBe(true)
    const ours = statement.totalMinor + (await statementOf(id)).totalMinor
    expect(ours).toBe(invoices.reduce((sum, { total }) => sum + total, 0))
  })

  test('is put together with what else is told within a day of an item, and with all that is told before the period ends', async () => {
    const { id, third } = await changed('starter', 'pro', 'late')
    await chargeDueLateUse(billing.context)
    await billing.use(id, 'calls', 10, { occurredAt: third })
    await billing.use(id, 'calls', 20, { occurredAt: third })
    await chargeDueLateUse(billing.context)
    expect((await itemsOf(id)).map(({ amount }) => amount)).toEqual([56])
    expect(await useMinor(id)).toBe(182)
    await billing.advance(id, '30d')
    expect((await itemsOf(id)).map(({ amount }) => amount)).toEqual([56, 21])
  })

  test('KF-8 of a time that cuts the line after it costs nothing more for it: it is on a line of its own', async () => {
    const { id } = await changed('starter', 'pro', 'late')
    const { period } = await statementOf(id)
    await billing.advance(id, '2h')
    const end = await billing.nowOf(id)
    await billing.advance(id, '2h')
    await billing.use(id, 'calls', 150)
    const costOf = async (until: Date): Promise<unknown> => {
      const query = `period_start=${period.start.toISOString()}&period_end=${until.toISOString()}`
      const { usage } = await answered(id, `/api/v1/billing/usage/tenant/${id}/summary?${query}`)
      return (usage as Record<string, { cost_cents: number }>)['calls']!.cost_cents
    }
    // Of pro's 160, 60 are over and were used afterwards.
    expect([await costOf(end), await costOf(period.end)]).toEqual([105 + 56, 105 + 56 + 30])
  })

  test('is taxed as the price and the product of its line', async () => {
    const { id } = await changed('starter', 'pro', 'late')
    const { priceId } = (await statementOf(id)).usage.find(({ lateOf }) => lateOf !== null)!
    const { product } = await billing.stripe.prices.update(priceId, { tax_behavior: 'exclusive' })
    await billing.stripe.products.update(product as string, { tax_code: 'txcd_10103001' })
    await chargeDueLateUse(billing.context)
    expect((await itemsOf(id))[0]!._).toMatchObject({ taxBehavior: 'exclusive', taxCode: 'txcd_10103001' })
  })

  test.each([true, false])('is on the last invoice of a subscription that is cancelled, at once: %s', async (immediate) => {
    const { id } = await changed('starter', 'pro', 'late')
    const { period } = await statementOf(id)
    await billing.succeed(id, 'cancel', { immediate })
    await billing.advance(id, '33d')
    const statement = await statementOf(id, period.start)
    expect(statement.usage.flatMap(({ amountMinor }) => (amountMinor === 0 ? [] : [amountMinor]))).toEqual([105, 56])
    expect(statement.isFinal).toBe(true)
    expect(statement.totalMinor).toBe((await invoicesOf(id)).reduce((sum, { total }) => sum + total, 0))
  })
})

describe('late use of a line that has ended, taken back', () => {
  test('before its item is asked for, is not charged', async () => {
    const { id, key } = await changed('pro', 'starter', 'late')
    await billing.correct(id, key, -30)
    // 300 at pro's price: 50 + 0 with 100 over, and 7 of starter's.
    expect(await useMinor(id)).toBe(57)
    await chargeDueLateUse(billing.context)
    expect((await itemsOf(id)).map(({ amount }) => amount)).toEqual([25])
    await billing.correct(id, key, -50)
    expect(await useMinor(id)).toBe(25 + 7)
  })

  test('whole, leaves no item and no line', async () => {
    const { id, key } = await changed('starter', 'pro', 'late')
    await billing.correct(id, key, -80)
    expect(await useMinor(id)).toBe(105)
    await chargeDueLateUse(billing.context)
    expect(await itemsOf(id)).toEqual([])
    expect((await statementOf(id)).usage.filter(({ lateOf }) => lateOf !== null)).toEqual([])
  })

  test('once it is paid, comes back as a credit of what it cost', async () => {
    const { id, key } = await changed('pro', 'starter', 'late')
    const { period } = await statementOf(id)
    await billing.advance(id, '33d')
    expect((await itemsOf(id)).map(({ amount }) => amount)).toEqual([108])
    expect(await billing.correct(id, key, -80)).toMatchObject({ late: 'credited' })
    await giveDueCredits(billing.context)
    expect(await billing.givenTo(id)).toEqual([108])
    expect(await useMinor(id, period.start)).toBe(25 + 7)
    const { rows } = await db.query('select counted, billed from late_use where organization_id = $1 and told = 0', [id])
    expect(rows).toContainEqual({ counted: 0n, billed: 0n })
  })
})
