import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { expect, test, vi } from 'vitest'
import { PATIENCE } from '../../test/patience.ts'
import { billingStep, take, type UsedBySteps } from '../../test/billing-steps.ts'
import { USE_CATALOG } from '../../test/use-catalog.ts'
import { testUse } from '../../test/used.ts'
import { HOUR_MS } from '../lib/period.ts'
import { parseQuantity } from '../lib/quantity.ts'
import { RECENT_SCOPE } from '../stripe/mirror/fetch.ts'
import { syncOrganization } from '../stripe/mirror/sync.ts'
import { reportDue } from './actions.ts'
import { collectUse } from './collect.ts'
import { listWithUseToReport } from './due-store.ts'
import { readStatement } from './statement.ts'

const billing = testUse(USE_CATALOG)
const SENDER = fileURLToPath(new URL('../../test/report-sender.ts', import.meta.url))

async function listed(organizationId: string): Promise<boolean> {
  const asked = { organizationIds: [organizationId], now: billing.context.clock.now() }
  return (await listWithUseToReport(billing.context.db, asked)).includes(organizationId)
}

/** As if the last look at an organization had been an hour ago. */
async function makeDue(organizationId: string): Promise<void> {
  const text = `update billing_spans set collected_at = collected_at - interval '61 minutes' where organization_id = $1`
  await billing.database.db.query(text, [organizationId])
}

async function isDue(organizationId: string): Promise<boolean> {
  const { rows } = await billing.database.db.query<{ due: boolean }>(
    `select bool_or(collected_at < now() - interval '1 hour') as due from billing_spans
     where organization_id = $1 and kind = 'usage' and state <> 'closed'`,
    [organizationId],
  )
  return rows[0]!.due
}

/** All that is written down of what an organization is billed for. */
async function booksOf(organizationId: string): Promise<unknown> {
  const { rows } = await billing.database.db.query<{ books: unknown }>(
    `select jsonb_build_array(
       (select jsonb_agg(to_jsonb(e) order by identifier) from meter_events e where organization_id = $1),
       (select jsonb_agg(to_jsonb(r) order by grant_id, reports, span_id, late) from reported_grants r where organization_id = $1),
       (select jsonb_agg(to_jsonb(c) order by id) from use_credits c where organization_id = $1),
       (select jsonb_agg(to_jsonb(s) - 'collected_at' order by id) from billing_spans s where organization_id = $1)
     ) as books`,
    [organizationId],
  )
  return rows[0]!.books
}

async function countOf(organizationId: string): Promise<number> {
  const { rows } = await billing.database.db.query<{ counted: bigint }>(
    `select coalesce(sum(value), 0)::bigint as counted from meter_events where organization_id = $1 and state = 'sent'`,
    [organizationId],
  )
  return Number(rows[0]!.counted) / 1_000_000
}

/** Runs `work` while somebody else holds the lock of an account. */
async function whileHeld(organizationId: string, work: () => Promise<void>): Promise<void> {
  await billing.database.db.transaction(async (tx) => {
    await tx.query('select from accounts where organization_id = $1 for update', [organizationId])
    await work()
  })
}

test('who has nothing to report is passed over, and waits for nobody', async () => {
  const id = await billing.customer('starter')
  await billing.use(id, 'calls', 100)
  await makeDue(id)
  await whileHeld(id, () => reportDue(billing.context))
  expect(await isDue(id)).toBe(false)
})

test('what an organization uses after it was passed over is reported when it is due again', async () => {
  const id = await billing.customer('starter')
  await billing.advance(id, '1h')
  await makeDue(id)
  await reportDue(billing.context)
  await billing.use(id, 'calls', 150)
  await reportDue(billing.context)
  expect(await countOf(id)).toBe(0)
  await makeDue(id)
  await reportDue(billing.context)
  expect(await countOf(id)).toBe(50)
})

test('what was taken back after it was reported lowers the next report', async () => {
  const id = await billing.customer('starter')
  await billing.advance(id, '1h')
  await billing.use(id, 'calls', 150, { key: 'too much' })
  for (const counted of [50, 30]) {
    await makeDue(id)
    await reportDue(billing.context)
    expect(await countOf(id)).toBe(counted)
    await billing.correct(id, 'too much', -20)
  }
})

test('what was taken back of overage comes off the line that bills it, not off one that bills all use of the allowance', async () => {
  const id = await billing.customer('starter')
  await billing.advance(id, '1h')
  await billing.use(id, 'calls', 150, { key: 'too much' })
  await collectUse(billing.context, id)
  const { db } = billing.database
  // As where the price of a balance was once of overage, and once of use.
  await db.query(
    `insert into reported_grants (organization_id, grant_id, reports, span_id, counted)
     select organization_id, grant_id, 'use', (select id from billing_spans span where span.organization_id = $1 and span.balance = 'tokens'), 100
     from reported_grants where organization_id = $1`,
    [id],
  )
  await db.query(
    `update billing_spans set starts_at = starts_at + interval '1 second' where organization_id = $1 and balance = 'tokens'`,
    [id],
  )
  await billing.correct(id, 'too much', -20)
  await billing.advance(id, '1h')
  await collectUse(billing.context, id)
  const { usage } = await readStatement(billing.context, { organizationId: id, at: null })
  expect(Object.fromEntries(usage.map(({ balanceKey, quantity }) => [balanceKey, quantity]))).toMatchObject({
    calls: parseQuantity(30),
    tokens: 0n,
  })
})

test('a process that is killed after it passed some over, and before it collected the others, leaves nothing unreported and nothing twice', async () => {
  const [idle, using] = [await billing.customer('starter'), await billing.customer('starter')]
  for (const id of [idle, using]) await billing.advance(id, '1h')
  await billing.use(using, 'calls', 150)
  for (const id of [idle, using]) await makeDue(id)
  await whileHeld(using, async () => {
    const { version } = billing.context.catalogs.current
    const args = [SENDER, billing.database.url, String(version), String(billing.sandbox.port), '', 'never']
    const child = spawn(process.execPath, args, { stdio: 'inherit' })
    await vi.waitFor(async () => expect(await isDue(idle)).toBe(false), PATIENCE)
    child.kill('SIGKILL')
    await once(child, 'exit')
  })
  expect(await isDue(using)).toBe(true)
  await billing.use(idle, 'calls', 130)
  await makeDue(idle)
  await reportDue(billing.context)
  expect([await countOf(idle), await countOf(using)]).toEqual([30, 50])
  for (const id of [idle, using]) await billing.advance(id, '33d')
  expect([await countOf(idle), await countOf(using)]).toEqual([30, 50])
})

test('a report that never left before its subscription ended is on the invoice of the next one', async () => {
  const id = await billing.customer('starter')
  const began = await billing.nowOf(id)
  await billing.advance(id, '1h')
  await billing.use(id, 'calls', 150)
  await collectUse(billing.context, id)
  const { body } = await billing.call(id, 'GET', '/api/v1/billing/subscription')
  await billing.stripe.subscriptions.cancel(String(body['subscription_id']))
  const followed = () =>
    billing.context.db.session((session) =>
      syncOrganization(billing.context, session, id, { scope: RECENT_SCOPE, priority: 'background' }),
    )
  await followed()
  await billing.call(id, 'POST', '/api/v1/billing/subscribe', {
    tier: 'starter',
    interval: 'monthly',
    payment_method_id: 'pm_card_visa',
  })
  await makeDue(id)
  await reportDue(billing.context)
  const { rows } = await billing.database.db.query(
    `select event.state, event.late, span.state as line from meter_events event
     join billing_spans span on span.organization_id = event.organization_id and span.id = event.span_id where event.organization_id = $1`,
    [id],
  )
  expect(rows).toEqual([{ state: 'sent', late: true, line: 'open' }])
  const { totalMinor, usage } = await readStatement(billing.context, { organizationId: id, at: null })
  const billed = usage.filter(({ quantity }) => quantity !== 0n)
  expect(billed).toMatchObject([
    { balanceKey: 'calls', quantity: parseQuantity(50), lateQuantity: parseQuantity(50), amountMinor: 35 },
  ])
  expect(totalMinor).toBe(1035)
  const line = billed[0]!.id
  const explained = await billing.ask('GET', `/api/v1/billing/statement/lines/${line}`, undefined, id)
  expect(explained.body).toMatchObject({ grants: [{ bills: [{ line, quantity: 50, late: true }] }] })
  expect(await readStatement(billing.context, { organizationId: id, at: began })).toMatchObject({ totalMinor: 1000 })
})

test('what is used in the second in which a price comes and goes is billed once, by the price that takes its place', async () => {
  const id = await billing.customer('starter')
  await billing.use(id, 'calls', 150)
  // The test clock stands: the first price has no second in which its use could be reported.
  await billing.succeed(id, 'upgrade', { new_tier: 'pro' })
  const { usage } = await readStatement(billing.context, { organizationId: id, at: null })
  const lines = usage.filter(({ balanceKey }) => balanceKey === 'calls')
  expect(Object.fromEntries(lines.map(({ state, quantity, amountMinor }) => [state, [quantity, amountMinor]]))).toEqual({
    closed: [0n, 0],
    open: [parseQuantity(50), 25],
  })
  await billing.advance(id, '32d')
  expect((await billing.invoicesOf(id))[0]).toMatchObject({ billing_reason: 'subscription_cycle', amount_due_minor: 3025 })
})

const step = fc.oneof(
  { weight: 4, arbitrary: billingStep },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('late' as const),
      hours: fc.integer({ min: 1, max: 24 * 34 }),
      quantity: fc.integer({ min: 1, max: 300 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('collect' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('take back' as const), quantity: fc.integer({ min: 1, max: 300 }) }),
  },
)

test('whatever is used, corrected and changed: of whom is passed over nothing was to be written down', async () => {
  const seen = { passedOver: 0, collected: 0 }
  let count = 0
  await fc.assert(
    fc.asyncProperty(fc.constantFrom('starter', 'pro'), fc.array(step, { minLength: 3, maxLength: 12 }), async (plan, steps) => {
      const id = await billing.customer(plan)
      const used: UsedBySteps = []
      for (const each of steps) {
        if (each.kind === 'late') {
          const occurredAt = new Date((await billing.nowOf(id)).getTime() - each.hours * HOUR_MS)
          await billing.use(id, 'calls', each.quantity, { occurredAt })
        } else if (each.kind === 'take back') {
          const key = `${id}-back-${(count += 1)}`
          await billing.use(id, 'calls', 300, { key })
          await collectUse(billing.context, id, { isStanding: true })
          await billing.correct(id, key, -each.quantity)
        } else if (each.kind === 'collect') await collectUse(billing.context, id)
        else await take(billing, { id, used }, each)
        if (await listed(id)) {
          seen.collected += 1
          continue
        }
        seen.passedOver += 1
        const before = await booksOf(id)
        await collectUse(billing.context, id, { isStanding: true })
        expect(await booksOf(id)).toEqual(before)
      }
      // And who has been collected whole is passed over.
      await collectUse(billing.context, id, { isStanding: true })
      const { body } = await billing.call(id, 'GET', '/api/v1/billing/subscription')
      expect(body['status'] === 'active' && (await listed(id))).toBe(false)
    }),
    { numRuns: Number(process.env['DUE_RUNS'] ?? 15), endOnFailure: true },
  )
  expect(seen.passedOver).toBeGreaterThan(20)
  expect(seen.collected).toBeGreaterThan(20)
}, 600_000)
