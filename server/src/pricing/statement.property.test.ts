import fc from 'fast-check'
import { expect, test } from 'vitest'
import { HOUR_MS } from '../lib/period.ts'
import { USE_CATALOG } from '../../test/use-catalog.ts'
import { billingStep, change, take, type UsedBySteps } from '../../test/billing-steps.ts'
import { testUse } from '../../test/used.ts'
import { reportNow } from './actions.ts'
import { giveDueCredits } from './credits.ts'
import { readStatement, type Statement } from './statement.ts'

const billing = testUse(USE_CATALOG)

/** The statements of all periods from a time until now: each begins where the one before has ended. */
async function statementsFrom(organizationId: string, from: Date, until: Date): Promise<Statement[]> {
  const statements: Statement[] = []
  for (let at = from; at <= until; at = statements.at(-1)!.period.end) {
    const statement = await readStatement(billing.context, { organizationId, at })
    expect(statement.period.end.getTime()).toBeGreaterThan(at.getTime())
    expect(statement.period.start).toEqual(statements.length > 0 ? at : statement.period.start)
    statements.push(statement)
  }
  return statements
}

type Route = { readonly status: number; readonly body: Record<string, unknown> }

async function answered(call: Promise<Route>): Promise<Record<string, unknown>> {
  const { status, body } = await call
  expect(status, JSON.stringify(body)).toBe(200)
  return body
}

/** KF-8 of each period is its statement, and OC-4 of a balance what the statements say of its period, without what came late. */
async function expectOneCost(id: string, statements: readonly Statement[]): Promise<void> {
  for (const { period, base, usage } of statements) {
    const query = `?period_start=${period.start.toISOString()}&period_end=${period.end.toISOString()}`
    const summary = await answered(billing.ask('GET', `/api/v1/billing/usage/tenant/${id}/summary${query}`))
    const costs = [...base.map(({ amountMinor }) => amountMinor), ...usage.map((line) => line.amountMinor - line.creditedMinor)]
    expect(summary['total_cost_cents'], `KF-8 ${query}`).toBe(costs.reduce((sum, cost) => sum + cost, 0))
  }
  const overview = await answered(billing.ask('GET', '/api/v1/billing/usage', undefined, id))
  const lines = statements.flatMap(({ usage }) => usage)
  for (const told of overview['balances'] as {
    balance: string
    overage_cost: number
    period_start: string
    period_end: string
  }[]) {
    const [start, end] = [new Date(told.period_start), new Date(told.period_end)]
    const own = lines.filter(
      ({ balanceKey, period }) => balanceKey === told.balance && period.start >= start && period.start < end,
    )
    // What late use costs is a matter of its line: OC-4 tells what the overage costs that it shows.
    if (own.some(({ lateQuantity }) => lateQuantity !== 0n)) continue
    const costMinor = own.reduce((sum, { amountMinor, creditedMinor }) => sum + amountMinor - creditedMinor, 0)
    expect(Math.round(told.overage_cost * 100), `OC-4 ${JSON.stringify(told)}`).toBe(costMinor)
  }
}

/** KF-9 is what Stripe foretells once all that was used is reported. */
async function expectNextInvoice(id: string): Promise<void> {
  const { body } = await billing.call(id, 'GET', '/api/v1/billing/subscription')
  // Of one that ends, Stripe foretells nothing.
  if (body['status'] !== 'active' || body['cancel_at_period_end'] === true) return
  const told = await answered(billing.call(id, 'GET', `/api/v1/billing/status/tenant/${id}`))
  await reportNow(billing.context, id, { isStanding: true })
  const { stripe_customer_id: customer, subscription_id: subscription } = body as Record<string, string>
  const invoice = await billing.stripe.invoices.createPreview({ customer: customer!, subscription: subscription! })
  // What is less than the smallest charge Stripe leaves to a later invoice: it is not due, and was invoiced all the same.
  const sum = invoice.total + (invoice.starting_balance ?? 0)
  expect(told['next_invoice_amount_cents']).toBe(sum < 50 ? 0 : sum)
}

/** What of a statement stands once it is final; the end of a period in which the subscription ended is where the next one begins. */
function linesOf({ period: { start }, base, usage, adjustments, totalMinor }: Statement) {
  return { start, base, usage: usage.map(({ id, quantity, parts }) => ({ id, quantity, parts })), adjustments, totalMinor }
}

/** Goes on for two quiet periods, so that everything that was used is on an invoice. */
async function settle(id: string): Promise<void> {
  // A level would stand, and be billed, in each period that follows.
  await billing.use(id, 'agents', 0)
  await change(billing, id, { route: 'resume' })
  await billing.advance(id, '32d')
  await billing.advance(id, '32d')
  await giveDueCredits(billing.context)
}

test('our statements, KF-8, KF-9, OC-4 and Stripe’s invoices are equal to the cent, whatever is used and however the plan changes', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom('starter', 'pro'),
      fc.constantFrom('monthly', 'yearly'),
      fc.array(billingStep, { minLength: 3, maxLength: 14 }),
      async (plan, interval, steps) => {
        const id = await billing.customer(plan, interval)
        const began = await billing.nowOf(id)
        const used: UsedBySteps = []
        const final = new Map<number, Statement>()
        for (const each of steps) {
          await take(billing, { id, used }, each)
          // Levels that stand in a period that has begun are told by whoever asks first.
          await billing.ask('GET', '/api/v1/billing/statement', undefined, id)
          const statementsNow = await statementsFrom(id, began, await billing.nowOf(id))
          await expectOneCost(id, statementsNow)
          if (each.kind !== 'advance') continue
          for (const statement of statementsNow) {
            const before = final.get(statement.period.start.getTime()) ?? statement
            expect(linesOf(statement)).toEqual(linesOf(before))
            if (statement.isFinal) final.set(statement.period.start.getTime(), statement)
          }
        }
        await expectNextInvoice(id)
        await settle(id)
        const now = await billing.nowOf(id)
        const statements = await statementsFrom(id, began, now)
        for (const before of final.values()) {
          expect(statements.map(linesOf)).toContainEqual(linesOf(before))
        }
        const over = statements.filter(({ period }) => period.end.getTime() < now.getTime() - 2 * HOUR_MS)
        expect(over.filter(({ isFinal }) => !isFinal)).toEqual([])
        const customer = await customerOf(id)
        const invoices = billing.sandbox.all('invoice').filter((invoice) => invoice.customer === customer)
        expect(invoices.every(({ status }) => status !== 'draft')).toBe(true)
        // Each line of use: what we say is what Stripe charged for that time.
        for (const { amountMinor, period } of statements.flatMap(({ usage }) => usage).filter((line) => line.amountMinor > 0)) {
          const [start, end] = [period.start.getTime() / 1000, period.end.getTime() / 1000]
          const lines = invoices
            .flatMap((invoice) => invoice._.lines)
            .filter((line) => line.period.start === start && line.period.end === end)
          expect(
            lines.length,
            `a line from ${period.start.toISOString()} to ${period.end.toISOString()} over ${amountMinor}`,
          ).toBeGreaterThan(0)
        }
        const ours = statements.reduce((sum, { totalMinor }) => sum + totalMinor, 0)
        const theirs = invoices.filter(({ status }) => status !== 'void').reduce((sum, { total }) => sum + total, 0)
        expect(ours).toBe(theirs)
        // What was taken back of lines that were paid has come back, each to the cent.
        const credited = statements.reduce((sum, { creditedMinor }) => sum + creditedMinor, 0)
        const given = billing.sandbox
          .all('customer_balance_transaction')
          .filter((entry) => entry.customer === customer && entry.metadata?.['tollgate_use_credit'] !== undefined)
          .reduce((sum, { amount }) => sum - amount, 0)
        expect(given).toBe(credited)
      },
    ),
    { numRuns: Number(process.env['STATEMENT_RUNS'] ?? 40), endOnFailure: true },
  )
}, 600_000)

async function customerOf(id: string): Promise<string> {
  const { rows } = await billing.database.db.query<{ customer: string }>(
    'select stripe_customer_id as customer from organizations where id = $1',
    [id],
  )
  return rows[0]!.customer
}
