import { expect, test } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import { keepRow, type Row } from '../../test/rows.ts'
import { SECOND_MS } from '../lib/period.ts'
import { parseQuantity } from '../lib/quantity.ts'
import { readStatement } from './statement.ts'

const fixture = testMetering()
const { clock } = fixture
const { db } = fixture.database
const [march, april, may] = ['2026-03-01', '2026-04-01', '2026-05-01'].map((day) => new Date(`${day}T00:00:00Z`)) as [
  Date,
  Date,
  Date,
]
const statementOf = (organizationId: string, at: Date) => readStatement({ ...fixture.context(), db }, { organizationId, at })

const line = (organizationId: string, id: string, over: Row = {}) =>
  keepRow(db, 'billing_spans', {
    organization_id: organizationId,
    id,
    kind: 'usage',
    subscription_id: `sub of ${organizationId}`,
    item_id: 'si',
    stripe_price_id: 'price',
    starts_at: march,
    ends_at: april,
    whole: true,
    quantity: parseQuantity(5),
    balance: 'tokens',
    state: 'closed',
    collected_at: march,
    invoice_id: 'in',
    period_start: march,
    period_end: april,
    unit_amount_minor: 0,
    included: { amount: null, used: '0', grantIds: [] },
    ...over,
  })
const price = () =>
  keepRow(db, 'usage_prices', {
    stripe_price_id: 'price',
    balance: 'tokens',
    reports: 'overage',
    event_name: '',
    formula: 'sum',
    currency: 'usd',
    terms: { model: 'per_unit', unitAmount: '7' },
    catalog_version: 1,
    created_at: march,
  })

test('a line is on the statement of the period in which it begins alone, though it ends seconds after that', async () => {
  await price()
  const id = await fixture.newOrganization()
  await line(id, 'of march', { ends_at: new Date(april.getTime() + 5 * SECOND_MS) })
  await line(id, 'of april', { starts_at: april, ends_at: may, period_start: april, period_end: may, quantity: parseQuantity(3) })
  const told = async (at: Date) => {
    const { usage, totalMinor } = await statementOf(id, at)
    return [usage.map((each) => each.id), totalMinor]
  }
  expect([await told(march), await told(april)]).toEqual([
    [['of march'], 35],
    [['of april'], 21],
  ])
})

test('a statement is final once all its use is closed and, where it costs something, on an invoice', async () => {
  const isFinal = async (...lines: readonly Row[]) => {
    const id = await fixture.newOrganization()
    for (const [index, over] of lines.entries()) await line(id, `line ${index}`, over)
    return (await statementOf(id, march)).isFinal
  }
  clock.set(may)
  expect(await isFinal({}, { invoice_id: null, quantity: 0 })).toBe(true)
  expect(await isFinal({}, { state: 'open', invoice_id: null, quantity: 0 })).toBe(false)
  expect(await isFinal({}, { state: 'closing' })).toBe(false)
  expect(await isFinal({}, { invoice_id: null })).toBe(false)
})

test('a statement is final when its period is over and has been invoiced, or its subscription has ended, and not before', async () => {
  const id = await fixture.newOrganization()
  await line(id, 'line')
  await keepRow(db, 'stripe_subscriptions', {
    organization_id: id,
    id: `sub of ${id}`,
    customer_id: 'cus',
    status: 'active',
    currency: 'usd',
    collection_method: '',
    cancel_at_period_end: false,
    created_at: march,
    data: {},
    refreshed_at: march,
  })
  const isFinal = async (now: Date) => {
    clock.set(now)
    return (await statementOf(id, march)).isFinal
  }
  const [before, after] = [new Date(april.getTime() - 1), april]
  expect([await isFinal(before), await isFinal(after)]).toEqual([false, false])
  await keepRow(db, 'stripe_invoices', {
    organization_id: id,
    id: `in of ${id}`,
    customer_id: 'cus',
    subscription_id: `sub of ${id}`,
    status: 'open',
    collection_method: '',
    currency: 'usd',
    subtotal_minor: 0,
    total_minor: 0,
    amount_due_minor: 0,
    amount_paid_minor: 0,
    amount_remaining_minor: 0,
    attempted: false,
    attempt_count: 0,
    period_start: march,
    period_end: april,
    created_at: april,
    data: {},
    refreshed_at: april,
  })
  expect([await isFinal(before), await isFinal(after)]).toEqual([false, true])
  await db.query(`update stripe_subscriptions set status = 'canceled' where organization_id = $1`, [id])
  expect(await isFinal(before)).toBe(true)
})

test('a statement of who has no subscription is final when its month is over', async () => {
  const id = await fixture.newOrganization()
  const isFinal = async (now: Date) => {
    clock.set(now)
    return (await statementOf(id, march)).isFinal
  }
  expect([await isFinal(march), await isFinal(april)]).toEqual([false, true])
})
