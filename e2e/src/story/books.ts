import { expect } from 'vitest'
import type { Body } from '../http.ts'
import type { Customer, StripeObject } from './place.ts'

// What has to agree with what, at any moment of a customer's life: our statement and Stripe's invoices, a line and its explanation, a
// grant and its parts, reports, exports and events. Nothing here knows a price or an allowance.

type Period = { readonly start: string; readonly end: string }
type UsageLine = {
  readonly id: string
  readonly price_id: string
  readonly quantity: number
  readonly late_quantity: number
  readonly credited_quantity: number
  readonly invoice_id: string | null
  readonly amount_minor: number
  readonly parts: readonly { readonly quantity: number; readonly amount_minor: number; readonly flat: boolean }[]
  readonly period: Period
}
type Amount = { readonly amount_minor: number }
type Statement = {
  readonly period: Period
  readonly base: readonly Amount[]
  readonly usage: readonly UsageLine[]
  readonly adjustments: readonly Amount[]
  readonly total_minor: number
}
type Draw = { readonly grant: string; readonly amount: number; readonly overage: number }
type Event = {
  readonly id: string
  readonly verb: string
  readonly meter: string
  readonly balance: string
  /** Of the period in which it counts. */
  readonly period_start: string
  readonly occurred_at: string
  readonly quantity: number
  readonly counted: number
  readonly overage: number
  readonly draws: readonly Draw[]
}
type Grant = {
  readonly id: string
  readonly balance: string
  readonly amount: number | null
  readonly used: number
  readonly overage: number
  readonly reserved: number
  readonly revoked: number
  readonly expired: number
  readonly remaining: number | null
  readonly starts_at: string
  readonly expires_at: string | null
}
type Share = Grant & {
  readonly bills: readonly { line: string; quantity: number; credited: number; late: boolean }[]
  readonly free_overage: number
}
type StripeLine = { readonly amount: number; readonly price: string | null; readonly start: number; readonly isUse: boolean }

const sum = <Item>(items: readonly Item[], of: (item: Item) => number): number =>
  items.reduce((total, item) => total + of(item), 0)
/** Quantities have six places; the sum of their doubles may have more. */
const exact = (quantity: number): number => Math.round(quantity * 1e6) / 1e6
const seconds = (time: string): number => Date.parse(time) / 1000

export async function expectBooksToAgree(customer: Customer, { began, now }: { began: string; now: string }): Promise<void> {
  const statements = await readStatements(customer, began, now)
  await expectInvoicesToAgree(customer, statements)
  for (const line of statements.flatMap(({ usage }) => usage)) await expectLineToBeExplained(customer, line)
  const events = await readAll<Event>(customer, `/api/v1/usage/events?${spanUntil(now)}`, 'events')
  await expectBalancesToAddUp(customer, events, now)
  await expectReportsToAddUp(customer, events, now)
  await expectExportsToBeThe(customer, events, now)
}

/** Whole days, from before the story until after it. */
function spanUntil(now: string): string {
  const day = (days: number): string =>
    `${new Date(Date.parse(now) + days * 86_400_000).toISOString().slice(0, 10)}T00:00:00.000Z`
  return `start=${day(-300)}&end=${day(2)}`
}

async function get<Answer>({ own }: Customer, path: string): Promise<Answer> {
  const { status, body } = await own.get(path)
  expect(status, `${path}: ${JSON.stringify(body)}`).toBe(200)
  return body as Answer
}

/** All pages of a list. */
async function readAll<Item>(customer: Customer, path: string, field: string): Promise<readonly Item[]> {
  const items: Item[] = []
  for (let cursor = ''; ;) {
    const page = await get<Body>(customer, `${path}${cursor && `&cursor=${encodeURIComponent(cursor)}`}`)
    items.push(...(page[field] as Item[]))
    if (typeof page['next_cursor'] !== 'string') return items
    cursor = page['next_cursor']
  }
}

async function readStatements(customer: Customer, from: string, now: string): Promise<readonly Statement[]> {
  const statements: Statement[] = []
  for (let at = from; at <= now; at = statements.at(-1)!.period.end) {
    const statement = await get<Statement>(customer, `/api/v1/billing/statement?period=${at}`)
    const { base, usage, adjustments, total_minor: total, period } = statement
    expect(period.end > at, `a period that ends after ${at}`).toBe(true)
    expect(total).toBe(sum([...base, ...usage, ...adjustments], (line) => line.amount_minor))
    statements.push(statement)
  }
  expect(statements.length).toBeGreaterThan(0)
  return statements
}

/**
 * Every line of ours is Stripe's, and every line of Stripe's is ours: those of invoices, and of the one that comes next the use, which we
 * bill in the period in which it was used.
 */
async function expectInvoicesToAgree(customer: Customer, statements: readonly Statement[]): Promise<void> {
  const { invoiced, upcoming } = await readStripe(customer)
  const known = [...invoiced, ...(upcoming ?? [])]
  const isUse = (line: StripeLine): boolean => line.isUse
  const isOf =
    (line: UsageLine) =>
    ({ price, start }: StripeLine): boolean =>
      price === line.price_id && start === seconds(line.period.start)
  // Of a subscription that ends Stripe foretells nothing: what is used is seen on its last invoice.
  const usage = statements
    .flatMap((statement) => statement.usage)
    .filter((line) => upcoming !== null || line.invoice_id !== null || invoiced.some(isOf(line)))
  for (const line of usage) {
    const theirs = sum(known.filter(isOf(line)), ({ amount }) => amount)
    expect(theirs, `Stripe's amount of ${JSON.stringify(line)}`).toBe(line.amount_minor)
  }
  expect(sum(usage, (line) => line.amount_minor)).toBe(sum(known.filter(isUse), ({ amount }) => amount))
  const fixed = statements.flatMap(({ base, adjustments }) => [...base, ...adjustments])
  const theirs = invoiced.filter((line) => !isUse(line))
  expect(sum(fixed, (line) => line.amount_minor)).toBe(sum(theirs, ({ amount }) => amount))
}

type StripeLines = { readonly invoiced: readonly StripeLine[]; readonly upcoming: readonly StripeLine[] | null }

async function readStripe(customer: Customer): Promise<StripeLines> {
  const { id, operator, stripe } = customer
  const organization = await operator.get(`/api/v1/organizations/${id}`)
  const stripeId = String(organization.body['stripe_customer_id'])
  const prices = await stripe.list('/v1/prices')
  const isMetered = ({ recurring }: StripeObject): boolean =>
    (recurring as { usage_type: string } | null)?.usage_type === 'metered'
  const metered = new Set(prices.filter(isMetered).map((price) => String(price['id'])))
  const invoices = await stripe.list(`/v1/invoices?customer=${stripeId}`)
  const invoiced: StripeLine[] = []
  for (const invoice of invoices) {
    // A purchase of its own, as a top-up, is on no statement.
    if (invoice['status'] === 'void' || invoice['parent'] === null) continue
    const own = (await stripe.list(`/v1/invoices/${String(invoice['id'])}/lines`)).map((line) => lineOf(line, metered))
    expect(
      sum(own, ({ amount }) => amount),
      `the lines of ${String(invoice['id'])}`,
    ).toBe(invoice['total'])
    invoiced.push(...own)
  }
  return { invoiced, upcoming: await readUpcoming(customer, stripeId, metered) }
}

/** The use on the invoice that comes next, null where Stripe foretells none; Tollgate says what all of it will come to (KF-9). */
async function readUpcoming(
  { id, own, stripe }: Customer,
  stripeId: string,
  metered: ReadonlySet<string>,
): Promise<readonly StripeLine[] | null> {
  const subscriptions = await stripe.list(`/v1/subscriptions?customer=${stripeId}&status=all`)
  const live = subscriptions.find(({ status }) => status !== 'canceled' && status !== 'incomplete_expired')
  if (live === undefined) return []
  const { status, body } = await stripe.post('/v1/invoices/create_preview', { subscription: String(live['id']) })
  if (status !== 200) return null
  const told = await own.get(`/api/v1/billing/status/tenant/${id}`)
  expect(told.body['next_invoice_amount_cents'], 'the next invoice').toBe(body['amount_due'])
  const lines = await stripe.list(`/v1/invoices/${String(body['id'])}/lines`)
  return lines.map((line) => lineOf(line, metered)).filter(({ isUse }) => isUse)
}

function lineOf({ amount, period, pricing }: StripeObject, metered: ReadonlySet<string>): StripeLine {
  const price = (pricing as { price_details: { price: string } | null } | null)?.price_details?.price ?? null
  const { start } = period as { start: number }
  return { amount: amount as number, price, start, isUse: price !== null && metered.has(price) }
}

type Explained = { readonly line: UsageLine; readonly grants: readonly Share[] }

/** What grants say of a line, and what its parts say, is the line; what each grant counts is what its events took, on lines or free. */
async function expectLineToBeExplained(customer: Customer, line: UsageLine): Promise<void> {
  const path = `/api/v1/billing/statement/lines/${encodeURIComponent(line.id)}`
  const { line: same, grants } = await get<Explained>(customer, `${path}?limit=1`)
  expect(same).toEqual(line)
  const here = grants.flatMap(({ bills }) => bills.filter((bill) => bill.line === line.id))
  expect(exact(sum(here, ({ quantity }) => quantity))).toBe(line.quantity)
  expect(
    exact(
      sum(
        here.filter(({ late }) => late),
        ({ quantity }) => quantity,
      ),
    ),
  ).toBe(line.late_quantity)
  expect(exact(sum(here, ({ credited }) => credited))).toBe(line.credited_quantity)
  expect(sum(line.parts, (part) => part.amount_minor)).toBe(line.amount_minor)
  const units = line.parts.filter(({ flat }) => !flat)
  if (line.quantity > 0) expect(exact(sum(units, ({ quantity }) => quantity))).toBe(line.quantity)
  if (grants.length === 0) return
  const events = await readAll<Event>(customer, `${path}?limit=1000`, 'events')
  for (const grant of grants) {
    const billed = sum(grant.bills, ({ quantity, credited }) => quantity - credited)
    expect(exact(billed + grant.free_overage), `bills of ${grant.id}`).toBe(grant.overage)
    expect(exact(drawnFrom(grant.id, events).overage), `events of ${grant.id}`).toBe(grant.overage)
  }
}

function drawnFrom(grantId: string, events: readonly Event[]): { readonly amount: number; readonly overage: number } {
  const draws = events
    .filter(({ verb }) => verb !== 'reserve')
    .flatMap((event) => event.draws.filter(({ grant }) => grant === grantId))
  return { amount: exact(sum(draws, ({ amount }) => amount)), overage: exact(sum(draws, ({ overage }) => overage)) }
}

function isOfPlan(grantId: string): boolean {
  return grantId.startsWith('plan:')
}

/** Each grant is the sum of its parts and of its events, and each balance of the grants that count now, used in its own period. */
async function expectBalancesToAddUp(customer: Customer, events: readonly Event[], now: string): Promise<void> {
  const { grants } = await get<{ grants: readonly Grant[] }>(customer, '/api/v1/grants')
  for (const grant of grants) {
    const { amount, used, overage, reserved, revoked, expired, remaining } = grant
    if (amount !== null) expect(remaining, grant.id).toBe(exact(amount - used - reserved - revoked - expired))
    expect(remaining === null || remaining >= 0, grant.id).toBe(true)
    const drawn = drawnFrom(grant.id, events)
    // What was overage may be included since, under another plan: their sum stays.
    expect(exact(used + overage), `events of ${grant.id}`).toBe(exact(drawn.amount + drawn.overage))
  }
  const { balances } = await get<{ balances: readonly (Grant & { period_start: string })[] }>(customer, '/api/v1/balances')
  for (const balance of balances) {
    const counting = grants.filter(
      ({ balance: key, starts_at: from, expires_at: to }) => key === balance.balance && from <= now && (to === null || now < to),
    )
    if (counting.length === 0) continue
    for (const field of ['overage', 'reserved', 'remaining'] as const) {
      expect(exact(sum(counting, (grant) => grant[field] ?? 0)), `${balance.balance}: ${field}`).toBe(balance[field] ?? 0)
    }
    const own = events.filter((event) => event.balance === balance.balance && event.period_start === balance.period_start)
    const ofPlan = counting.filter(({ id }) => isOfPlan(id))
    const others = grants.filter(({ id }) => !isOfPlan(id))
    const used = sum(ofPlan, (grant) => grant.used) + sum(others, ({ id }) => drawnFrom(id, own).amount)
    expect(exact(used), `${balance.balance}: used in its period`).toBe(balance.used)
  }
}

type Row = {
  readonly start: string
  readonly meter: string
  readonly quantity: number
  readonly overage: number
  readonly credits_used: number
}

/** What reports tell of each day and month is what the events of that day and month come to. */
async function expectReportsToAddUp(customer: Customer, events: readonly Event[], now: string): Promise<void> {
  const uses = events.filter(({ verb }) => verb !== 'reserve')
  for (const [grain, length] of [
    ['day', 10],
    ['month', 7],
  ] as const) {
    const path = `/api/v1/usage/report?${spanUntil(now)}&grain=${grain}&limit=1000`
    const rows = await readAll<Row>(customer, path, 'rows')
    const told = rows.map(({ meter, start, quantity, overage }) => ({
      of: `${meter} ${start.slice(0, length)}`,
      quantity,
      overage,
    }))
    const byTime = Map.groupBy(uses, ({ meter, occurred_at: at }) => `${meter} ${at.slice(0, length)}`)
    const counted = [...byTime].map(([of, own]) => ({
      of,
      quantity: exact(sum(own, (event) => event.counted)),
      overage: exact(sum(own, (event) => event.overage)),
    }))
    const something = ({ quantity, overage }: { quantity: number; overage: number }): boolean => quantity !== 0 || overage !== 0
    const byName = (a: { of: string }, b: { of: string }): number => (a.of < b.of ? -1 : 1)
    expect(told.filter(something).toSorted(byName), `by the ${grain}`).toEqual(counted.filter(something).toSorted(byName))
  }
}

async function expectExportsToBeThe({ own }: Customer, events: readonly Event[], now: string): Promise<void> {
  const path = `/api/v1/usage/events/export?${spanUntil(now)}`
  const lines = (await own.text(`${path}&format=ndjson`)).split('\n').filter((line) => line !== '')
  const exported = lines.map((line) => JSON.parse(line) as Event)
  // A page says besides which invoice settles an event.
  expect(exported).toEqual(events.map((event) => expect.objectContaining({ id: event.id }) as unknown))
  for (const [index, event] of exported.entries()) expect(events[index]).toMatchObject(event)
  const rows = (await own.text(`${path}&format=csv`)).trim().split('\n').slice(1)
  expect(rows.map((row) => row.slice(0, row.indexOf(',')))).toEqual(events.map(({ id }) => id))
}
