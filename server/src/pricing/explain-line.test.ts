import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { correction, passing, reporting, takeCommon, type UsedBySteps } from '../../test/billing-steps.ts'
import { testUse } from '../../test/used.ts'
import { startClock } from '../../test/test-clocks.ts'
import { readMigrations } from '../db/migrate.ts'
import { giveGrant } from '../grants/giving.ts'
import { parseQuantity } from '../lib/quantity.ts'

const billing = testUse({
  meters: { calls: { groupBy: [] }, month: {} },
  plans: {
    free: { name: 'Free', allowances: { calls: { amount: 10 } } },
    basic: {
      name: 'Basic',
      prices: { monthly: { amountMinor: 1000 } },
      allowances: {
        calls: { amount: 100, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 2 } },
        month: { amount: 50, limit: 'soft', period: 'calendar_month', overage: { model: 'package', size: 10, amountMinor: 3 } },
      },
    },
    pro: {
      name: 'Pro',
      prices: { monthly: { amountMinor: 3000 } },
      allowances: {
        calls: { amount: 200, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 1 } },
        month: { amount: 80, limit: 'soft', period: 'calendar_month', overage: { model: 'package', size: 10, amountMinor: 2 } },
      },
    },
  },
  defaultPlan: 'free',
})

type Bill = { readonly line: string; readonly quantity: number; readonly credited: number; readonly late: boolean }
type Share = { readonly id: string; readonly overage: number; readonly free_overage: number; readonly bills: readonly Bill[] }
type Event = { readonly id: string; readonly overage: number; readonly draws: readonly { grant: string; overage: number }[] }
type Line = {
  readonly id: string
  readonly balance: string
  readonly grants: readonly string[]
  readonly quantity: number
  readonly late_quantity: number
  readonly credited_quantity: number
  readonly amount_minor: number
  readonly included: number
  readonly included_used: number
}
type Explained = {
  readonly line: Line
  readonly grants: readonly Share[]
  readonly events: Event[]
  readonly next_cursor: string | null
}

async function ask<Body>(id: string, path: string): Promise<Body> {
  const { status, body } = await billing.ask('GET', path, undefined, id)
  if (status !== 200) throw new Error(JSON.stringify(body))
  return body as Body
}

/** An explanation with all pages of its events. */
async function explain(id: string, line: string): Promise<Explained> {
  const events: Event[] = []
  for (let cursor = ''; ;) {
    const page = await ask<Explained>(id, `/api/v1/billing/statement/lines/${line}?limit=4${cursor && `&cursor=${cursor}`}`)
    events.push(...page.events)
    if (page.next_cursor === null) return { ...page, events }
    cursor = encodeURIComponent(page.next_cursor)
  }
}

const statement = (id: string, at: Date | null = null) =>
  ask<{ usage: Line[]; period: { start: string; end: string } }>(
    id,
    `/api/v1/billing/statement${at ? `?period=${at.toISOString()}` : ''}`,
  )

/** The usage lines of all periods from a time until now. */
async function linesFrom(id: string, from: Date): Promise<Line[]> {
  const lines: Line[] = []
  for (let at = from; at <= (await billing.nowOf(id));) {
    const { usage, period } = await statement(id, at)
    lines.push(...usage)
    at = new Date(period.end)
  }
  return lines
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0)

/** What each grant counts is what its events took, and is on lines or free; what grants say of a line is the line. */
async function expectToAddUp(id: string, from: Date): Promise<void> {
  const lines = await linesFrom(id, from)
  expect(lines.length).toBeGreaterThan(0)
  for (const line of lines) {
    const { line: same, grants, events } = await explain(id, line.id)
    expect(same).toEqual(line)
    const here = grants.flatMap(({ bills }) => bills.filter((bill) => bill.line === line.id))
    expect(sum(here.map(({ quantity }) => quantity))).toBe(line.quantity)
    expect(sum(here.filter(({ late }) => late).map(({ quantity }) => quantity))).toBe(line.late_quantity)
    expect(sum(here.map(({ credited }) => credited))).toBe(line.credited_quantity)
    for (const grant of grants) {
      expect(sum(grant.bills.map(({ quantity, credited }) => quantity - credited)) + grant.free_overage).toBe(grant.overage)
      const drawn = events.flatMap(({ draws }) => draws.filter((draw) => draw.grant === grant.id))
      expect(sum(drawn.map(({ overage }) => overage))).toBe(grant.overage)
    }
  }
}

const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('use' as const),
      meter: fc.constantFrom('calls', 'month'),
      quantity: fc.integer({ min: 1, max: 160 }),
      hoursAgo: fc.option(fc.integer({ min: 1, max: 34 * 24 })),
    }),
  },
  { weight: 1, arbitrary: correction },
  { weight: 3, arbitrary: passing(20) },
  { weight: 1, arbitrary: reporting },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('switch' as const), plan: fc.constantFrom('basic', 'pro') }) },
)
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never

async function take(id: string, each: Step, used: UsedBySteps): Promise<void> {
  switch (each.kind) {
    case 'use': {
      const key = `${id} ${used.length}`
      const ago = each.hoursAgo
      const occurredAt = ago === null ? {} : { occurredAt: new Date((await billing.nowOf(id)).getTime() - ago * 3_600_000) }
      await billing.use(id, each.meter, each.quantity, { key, ...occurredAt })
      used.push({ key, quantity: each.quantity })
      return
    }
    case 'correct':
    case 'advance':
    case 'report':
      return takeCommon(billing, { id, used }, each)
    case 'switch': {
      const { status, body } = await billing.call(id, 'POST', '/api/v1/billing/upgrade', { new_tier: each.plan })
      if (![200, 409].includes(status)) throw new Error(JSON.stringify(body))
    }
  }
}

test('every line is the sum of what it bills of grants, late use told apart, and every grant the sum of its events', async () => {
  await fc.assert(
    fc.asyncProperty(fc.constantFrom('basic', 'pro'), fc.array(step, { minLength: 3, maxLength: 12 }), async (plan, steps) => {
      const id = await billing.customer(plan)
      const began = await billing.nowOf(id)
      const used: UsedBySteps = []
      for (const each of steps) await take(id, each, used)
      await expectToAddUp(id, began)
      await billing.advance(id, '32d')
      await expectToAddUp(id, began)
    }),
    { numRuns: 20, endOnFailure: true },
  )
}, 600_000)

test('late use on a line is told apart from the use of its own period, each with its events', async () => {
  const id = await billing.customer('basic')
  const { period } = await statement(id)
  await billing.use(id, 'calls', 120)
  await billing.advance(id, '33d')
  await billing.use(id, 'calls', 107)
  await billing.use(id, 'calls', 10, { occurredAt: new Date(new Date(period.end).getTime() - 1) })
  const line = (await statement(id)).usage.find(({ balance }) => balance === 'calls')!
  const { grants, events } = await explain(id, line.id)
  expect(line).toMatchObject({ quantity: 17, late_quantity: 10, amount_minor: 34 })
  const here = grants.map(({ bills }) =>
    bills.filter((bill) => bill.line === line.id).map(({ quantity, late }) => [quantity, late]),
  )
  expect(here).toEqual(expect.arrayContaining([[[10, true]], [[7, false]]]))
  expect(events.map(({ overage }) => overage)).toEqual([20, 7, 10])
})

test('a line that was ended while its allowances were kept as one text names them again', async () => {
  const id = await billing.customer('basic')
  await billing.use(id, 'calls', 60)
  await billing.advance(id, '3d')
  await billing.call(id, 'POST', '/api/v1/billing/upgrade', { new_tier: 'pro' })
  const linesNow = async () => (await statement(id)).usage
  const { db } = billing.context
  const before = await linesNow()
  await db.query(
    `update billing_spans set included = jsonb_set(included, '{grantIds}', to_jsonb(array(select jsonb_array_elements_text(included -> 'grantIds'))::text))
     where organization_id = $1 and included is not null`,
    [id],
  )
  expect(await linesNow()).not.toEqual(before)
  await db.query(readMigrations().find(({ name }) => name.startsWith('0298_'))!.sql)
  expect(await linesNow()).toEqual(before)
})

test('the line of a plan that was changed keeps what was included in it', async () => {
  const id = await billing.customer('basic')
  const began = await billing.nowOf(id)
  await billing.use(id, 'calls', 60)
  await billing.advance(id, '3d')
  await billing.call(id, 'POST', '/api/v1/billing/upgrade', { new_tier: 'pro' })
  await billing.use(id, 'calls', 90)
  const lines = (await statement(id, began)).usage.filter(({ balance }) => balance === 'calls')
  expect(lines.map((line) => [line.included, line.included_used])).toEqual([
    [100, 60],
    [200, 150],
  ])
})

test('a line names the allowances that it bills, each by the id under which it is explained', async () => {
  const id = await billing.customer('basic')
  await billing.use(id, 'calls', 120)
  const line = (await statement(id)).usage.find(({ balance }) => balance === 'calls')!
  expect(line.grants).toEqual((await explain(id, line.id)).grants.map((grant) => grant.id))
  expect(line.grants).toHaveLength(1)
  expect(await ask(id, `/api/v1/usage/explain?grant=${encodeURIComponent(line.grants[0]!)}`)).toMatchObject({
    grants: [{ id: line.grants[0], overage: 20 }],
  })
})

test('a line of nothing, one that does not exist, and another tenant’s', async () => {
  const id = await billing.customer('basic')
  const other = await billing.customer('basic')
  const { usage } = await statement(id)
  expect(await explain(id, usage[0]!.id)).toMatchObject({ grants: [], events: [] })
  const asked = (organization: string, line: string) =>
    billing.ask('GET', `/api/v1/billing/statement/lines/${line}`, undefined, organization)
  expect((await asked(id, 'none')).status).toBe(404)
  expect((await asked(other, usage[0]!.id)).status).toBe(404)
})

describe('what overage costs is what will be charged', () => {
  test('in a trial nothing, and the answer says why', async () => {
    const id = await billing.createOrganization('trying')
    await startClock(billing.context, id)
    await billing.call(id, 'POST', '/api/v1/billing/subscribe', { tier: 'basic' })
    await billing.use(id, 'calls', 150)
    const overview = await ask<Record<string, unknown>>(id, '/api/v1/billing/usage')
    expect(overview).toMatchObject({
      credits: { overage: 50, overage_cost: 0, free_overage: 50, free_because: 'trial' },
      balances: expect.arrayContaining([expect.objectContaining({ overage: 50, overage_cost: 0, free_because: 'trial' })]),
    })
    expect(await ask(id, `/api/v1/billing/usage/tenant/${id}/summary`)).toMatchObject({
      usage: { calls: { quantity: 150, cost_cents: 0 } },
    })
    await billing.call(id, 'POST', '/api/v1/billing/payment-methods', { payment_method_id: 'pm_card_visa' })
    await billing.use(id, 'month', 70)
    await billing.advance(id, '15d')
    await billing.use(id, 'calls', 103)
    await billing.use(id, 'month', 20)
    const paid = await ask<{ balances: { balance: string }[] }>(id, '/api/v1/billing/usage')
    expect(paid.balances).toEqual([
      expect.objectContaining({ balance: 'calls', overage: 3, overage_cost: 0.06, free_overage: 0, free_because: null }),
      expect.objectContaining({ balance: 'month' }),
    ])
  })

  test('of a plan that was changed, what it cost before and what it costs since: in overview, summary, explanation and statement', async () => {
    const id = await billing.customer('basic')
    await billing.use(id, 'calls', 130)
    await billing.advance(id, '3d')
    await billing.call(id, 'POST', '/api/v1/billing/upgrade', { new_tier: 'pro' })
    await billing.use(id, 'calls', 120)
    // 30 beyond basic's 100 at 2 cents. Of the next 120, 100 are pro's, 20 beyond them at 1.
    expect(await ask(id, '/api/v1/billing/usage')).toMatchObject({ credits: { overage: 50, overage_cost: 0.8 } })
    expect(await ask(id, `/api/v1/billing/usage/tenant/${id}/summary`)).toMatchObject({ usage: { calls: { cost_cents: 80 } } })
    expect((await statement(id)).usage.filter(({ balance }) => balance === 'calls').map((line) => line.amount_minor)).toEqual([
      60, 20,
    ])
    const explained = await ask<{ grants: { overage_cost: { amount_minor: number } }[] }>(
      id,
      '/api/v1/usage/explain?balance=calls',
    )
    expect(explained.grants[0]!.overage_cost).toMatchObject({
      amount_minor: 80,
      parts: [{ amount_minor: 60 }, { amount_minor: 20 }],
    })
  })

  test('while a subscription is paused nothing: it is free also after it was resumed', async () => {
    const id = await billing.customer('basic')
    await billing.use(id, 'calls', 110)
    await billing.advance(id, '1d')
    await billing.call(id, 'POST', '/api/v1/billing/pause', {})
    await billing.use(id, 'calls', 50)
    // What was used before the pause is on its line.
    expect((await statement(id)).usage[0]).toMatchObject({ amount_minor: 20 })
    expect(await ask(id, '/api/v1/billing/usage')).toMatchObject({
      credits: { overage: 60, overage_cost: 0.2, free_overage: 50, free_because: 'no_subscription' },
    })
    await billing.advance(id, '1d')
    await billing.call(id, 'POST', '/api/v1/billing/resume', {})
    expect(await ask(id, '/api/v1/billing/usage')).toMatchObject({
      credits: { overage: 60, overage_cost: 0.2, free_overage: 50, free_because: 'unbilled_time' },
    })
  })

  test('late use costs on the line of the statement, and is no overage of the running period in the overview', async () => {
    const id = await billing.customer('basic')
    const { end } = (await statement(id)).period
    await billing.advance(id, '33d')
    await billing.use(id, 'calls', 110, { occurredAt: new Date(new Date(end).getTime() - 1) })
    await billing.use(id, 'calls', 103)
    expect((await statement(id)).usage[0]).toMatchObject({ quantity: 13, late_quantity: 10, amount_minor: 26 })
    expect(await ask(id, '/api/v1/billing/usage')).toMatchObject({ credits: { overage: 3, overage_cost: 0.06, free_overage: 0 } })
  })

  test('of a calendar month that a line reaches beyond, what that month’s overage would cost alone', async () => {
    const id = await billing.customer('basic')
    await billing.use(id, 'month', 70)
    const now = await billing.nowOf(id)
    const turn = Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1)
    await billing.advance(id, `${Math.ceil((turn - now.getTime()) / 60_000)}m`)
    await billing.use(id, 'month', 65)
    const line = (await statement(id)).usage.find(({ balance }) => balance === 'month')
    expect(line).toMatchObject({ quantity: 35, amount_minor: 12 })
    const { balances } = await ask<{ balances: object[] }>(id, '/api/v1/billing/usage')
    expect(balances).toContainEqual(expect.objectContaining({ balance: 'month', overage: 15, overage_cost: 0.06 }))
  })

  test('a cent for each line, in the overview, the summary and the statement alike', async () => {
    const id = await billing.customer('basic')
    await billing.use(id, 'calls', 107)
    expect(await ask(id, '/api/v1/billing/usage')).toMatchObject({
      credits: { overage_cost: 0.14, free_overage: 0, free_because: null },
    })
    expect(await ask(id, `/api/v1/billing/usage/tenant/${id}/summary`)).toMatchObject({ usage: { calls: { cost_cents: 14 } } })
    expect((await statement(id)).usage[0]).toMatchObject({ amount_minor: 14 })
  })
})

test('OC-4 included_credits are the plan’s, whatever was granted besides', async () => {
  const id = await billing.customer('basic')
  const { db, catalogs, clock } = billing.context
  const gift = { organizationId: id, id: 'gift', balanceKey: 'calls', kind: 'promotion', amount: parseQuantity(30) } as const
  await giveGrant({ db, catalogs, clock, graceDays: 3 }, gift, { actor: 'operator', requestId: null })
  await billing.use(id, 'calls', 40)
  expect(await ask(id, '/api/v1/billing/usage')).toMatchObject({
    credits: { included_credits: 100, extra_credits: 30, used: 40, remaining: 90, overage: 0 },
  })
})
