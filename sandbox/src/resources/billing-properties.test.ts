/**
 * Whatever is done to subscriptions and invoices, in whatever order and with whatever moves of the clock between: sums add up, money
 * is neither made nor lost, periods follow one another, and everything that changed was told.
 */
import fc from 'fast-check'
import { Stripe } from 'stripe'
import { expect, test } from 'vitest'
import { type BillingBench, startBillingBench } from '../../test/billing.ts'
import type { Stored } from '../model/stored.ts'

const DAY = 86_400

/** One thing done to the customer's billing; numbers pick among what there is. */
type Step =
  | {
      readonly kind: 'subscribe'
      readonly price: number
      readonly quantity: number
      readonly trialDays: number
      readonly coupon: number
      readonly classic: boolean
      readonly incomplete: boolean
    }
  | {
      readonly kind: 'change'
      readonly price: number
      readonly quantity: number
      readonly proration: number
      readonly resets: boolean
      readonly pending: boolean
    }
  | { readonly kind: 'add item' | 'remove item'; readonly price: number; readonly proration: number }
  | { readonly kind: 'cancel'; readonly when: number }
  | { readonly kind: 'keep' | 'pause' | 'resume' | 'end trial' | 'downgrade later' }
  | { readonly kind: 'void' | 'pay' | 'write off' }
  | { readonly kind: 'charge item'; readonly amount: number }
  | { readonly kind: 'adjust balance'; readonly amount: number }
  | { readonly kind: 'credit note'; readonly share: number }
  | { readonly kind: 'card'; readonly works: boolean }
  | { readonly kind: 'wait'; readonly days: number }

const index = fc.nat({ max: 7 })
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('subscribe' as const),
      price: index,
      quantity: fc.integer({ min: 1, max: 4 }),
      trialDays: fc.constantFrom(0, 0, 0, 2, 14),
      coupon: index,
      classic: fc.boolean(),
      incomplete: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('change' as const),
      price: index,
      quantity: fc.integer({ min: 1, max: 4 }),
      proration: index,
      resets: fc.boolean(),
      pending: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constantFrom('add item' as const, 'remove item' as const), price: index, proration: index }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('cancel' as const), when: index }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constantFrom('keep' as const, 'pause', 'resume', 'end trial', 'downgrade later'),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('charge item' as const), amount: fc.integer({ min: -3000, max: 5000 }) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('adjust balance' as const), amount: fc.integer({ min: -4000, max: 1000 }) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('credit note' as const), share: fc.integer({ min: 1, max: 100 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('card' as const), works: fc.boolean() }) },
  { weight: 9, arbitrary: fc.record({ kind: fc.constant('wait' as const), days: fc.constantFrom(1 / 24, 1, 3, 7, 15, 31) }) },
)

/** Every run begins with a subscription, so that there is something to do things to. */
const FIRST: Step = { kind: 'subscribe', price: 1, quantity: 2, trialDays: 0, coupon: 9, classic: false, incomplete: false }

interface World {
  readonly bench: BillingBench
  readonly customer: string
  readonly clock: string
  readonly prices: readonly string[]
  readonly coupons: readonly string[]
  readonly cards: { readonly good: string; readonly bad: string }
}

const pick = <T>(list: readonly T[], n: number): T => {
  const found = list[n % list.length]
  if (found === undefined) throw new Error('nothing to pick from')
  return found
}

const PRORATIONS = ['create_prorations', 'always_invoice', 'none'] as const

/** Does a step; what Stripe would refuse is refused, and changes nothing. */
async function take(world: World, next: Step): Promise<void> {
  try {
    await act(world, next)
  } catch (error) {
    if (!(error instanceof Stripe.errors.StripeError) || error.statusCode === undefined || error.statusCode >= 500) throw error
  }
}

async function act(world: World, next: Step): Promise<void> {
  const { bench, customer, prices } = world
  const { stripe } = bench
  const running = (await stripe.subscriptions.list({ customer, limit: 5 })).data.filter(
    (sub) => sub.status !== 'incomplete_expired',
  )
  const [current] = running
  const [latest] = (await stripe.invoices.list({ customer, limit: 1 })).data
  switch (next.kind) {
    case 'wait':
      await wait(world, next.days)
      return
    case 'subscribe':
      await stripe.subscriptions.create({
        customer,
        items: [{ price: pick(prices, next.price), quantity: next.quantity }],
        ...(next.trialDays === 0 ? {} : { trial_period_days: next.trialDays }),
        ...(next.coupon < world.coupons.length ? { discounts: [{ coupon: pick(world.coupons, next.coupon) }] } : {}),
        billing_mode: { type: next.classic ? 'classic' : 'flexible' },
        ...(next.incomplete ? { payment_behavior: 'default_incomplete' } : {}),
      })
      return
    case 'card': {
      const card = next.works ? world.cards.good : world.cards.bad
      await stripe.customers.update(customer, { invoice_settings: { default_payment_method: card } })
      return
    }
    case 'charge item':
      await stripe.invoiceItems.create({ customer, amount: next.amount, currency: 'usd' })
      return
    case 'adjust balance':
      await stripe.customers.createBalanceTransaction(customer, { amount: next.amount, currency: 'usd' })
      return
    case 'pay':
    case 'void':
    case 'write off':
    case 'credit note':
      if (latest !== undefined) await actOnInvoice(world, next, latest)
      return
    case 'change':
    case 'add item':
    case 'remove item':
    case 'cancel':
    case 'keep':
    case 'pause':
    case 'resume':
    case 'end trial':
    case 'downgrade later':
      if (current !== undefined) await actOnSubscription(world, next, current)
  }
}

async function wait({ bench, clock }: World, days: number): Promise<void> {
  const { frozen_time: now } = await bench.stripe.testHelpers.testClocks.retrieve(clock)
  const target = now + Math.round(days * DAY)
  // In steps that even the shortest subscription allows.
  for (let at = now; at < target;) {
    at = Math.min(at + 7 * DAY, target)
    await bench.advance(clock, at)
  }
}

async function actOnInvoice({ bench: { stripe } }: World, next: Step, invoice: Stripe.Invoice): Promise<void> {
  if (next.kind === 'pay') await stripe.invoices.pay(invoice.id)
  if (next.kind === 'void') await stripe.invoices.voidInvoice(invoice.id)
  if (next.kind === 'write off') await stripe.invoices.markUncollectible(invoice.id)
  if (next.kind !== 'credit note') return
  const amount = Math.ceil((invoice.total * next.share) / 100)
  const postPaid = invoice.status === 'paid' ? { credit_amount: amount } : {}
  await stripe.creditNotes.create({ invoice: invoice.id, amount, ...postPaid })
}

type SubscriptionStep = Extract<
  Step,
  { kind: 'change' | 'add item' | 'remove item' | 'cancel' | 'keep' | 'pause' | 'resume' | 'end trial' | 'downgrade later' }
>

async function actOnSubscription(
  { bench: { stripe }, prices }: World,
  next: SubscriptionStep,
  subscription: Stripe.Subscription,
): Promise<void> {
  const { id } = subscription
  const item = pick(subscription.items.data, 0).id
  switch (next.kind) {
    case 'change':
      await stripe.subscriptions.update(id, {
        items: [{ id: item, price: pick(prices, next.price), quantity: next.quantity }],
        proration_behavior: pick(PRORATIONS, next.proration),
        ...(next.resets ? { billing_cycle_anchor: { type: 'now' } } : {}),
        ...(next.pending ? { payment_behavior: 'pending_if_incomplete' } : {}),
      })
      return
    case 'add item':
      await stripe.subscriptionItems.create({
        subscription: id,
        price: pick(prices, next.price),
        proration_behavior: pick(PRORATIONS, next.proration),
      })
      return
    case 'remove item':
      await stripe.subscriptionItems.del(item, { proration_behavior: pick(PRORATIONS, next.proration) })
      return
    case 'cancel':
      if (next.when < 3) await stripe.subscriptions.update(id, { cancel_at_period_end: true })
      else await stripe.subscriptions.cancel(id, { prorate: next.when % 2 === 0, invoice_now: next.when > 5 })
      return
    case 'keep':
      await stripe.subscriptions.update(id, { cancel_at_period_end: false })
      return
    case 'pause':
      await stripe.subscriptions.pause(id)
      return
    case 'resume':
      await stripe.subscriptions.resume(id)
      return
    case 'end trial':
      await stripe.subscriptions.update(id, { trial_end: 'now' })
      return
    case 'downgrade later': {
      const schedule = await stripe.subscriptionSchedules.create({ from_subscription: id })
      const phase = pick(schedule.phases, 0)
      const items = subscription.items.data.map((member) => ({ price: member.price.id, quantity: member.quantity ?? 1 }))
      await stripe.subscriptionSchedules.update(schedule.id, {
        phases: [{ items, start_date: phase.start_date, end_date: phase.end_date }, { items: [{ price: pick(prices, 0) }] }],
      })
    }
  }
}

const sum = (parts: ReadonlyArray<{ amount: number }> | null): number => (parts ?? []).reduce((all, part) => all + part.amount, 0)

/** Σ lines = subtotal; subtotal − discounts − credits + tax = total; payments + remaining = due; balance and due make up the total. */
function checkInvoice(invoice: Stored<'invoice'>): void {
  const where = `${invoice.id} (${invoice.billing_reason ?? ''}, ${invoice.status ?? ''})`
  expect(sum(invoice._.lines), `${where}: Σ lines`).toBe(invoice.subtotal)
  const tax = sum((invoice.total_taxes ?? []).filter((entry) => entry.tax_behavior === 'exclusive'))
  expect(invoice.subtotal - sum(invoice.total_pretax_credit_amounts) + tax, `${where}: total`).toBe(invoice.total)
  for (const line of invoice._.lines) {
    const shares = (line.discount_amounts ?? []).reduce((all, part) => all + part.amount, 0)
    expect(shares, `${where}: a line's discounts`).toBeLessThanOrEqual(Math.max(line.amount, 0))
  }
  if (invoice.status === 'draft') return
  const waived = invoice.status === 'void' ? invoice.amount_due - invoice.amount_paid : invoice.amount_remaining
  expect(invoice.amount_paid + waived, `${where}: paid and remaining`).toBe(invoice.amount_due)
  expect(
    invoice.amount_due + invoice.pre_payment_credit_notes_amount + (invoice.ending_balance ?? 0),
    `${where}: total and balance`,
  ).toBe(invoice.total + invoice.starting_balance)
  expect(invoice.amount_remaining, where).toBeGreaterThanOrEqual(0)
  if (invoice.status === 'paid') expect(invoice.amount_remaining, where).toBe(0)
}

function checkPayments(world: World, invoice: Stored<'invoice'>): void {
  const payments = world.bench.sandbox
    .all('invoice_payment')
    .filter((payment) => payment.invoice === invoice.id && payment.status === 'paid')
  const paid = payments.reduce((all, payment) => all + (payment.amount_paid ?? 0), 0)
  expect(paid, `${invoice.id}: payments`).toBe(invoice.amount_paid)
}

const APPLYING: ReadonlySet<string> = new Set(['applied_to_invoice', 'invoice_too_small'])

function checkBalance(world: World): void {
  const { sandbox } = world.bench
  const entries = sandbox.all('customer_balance_transaction').filter((entry) => entry.customer === world.customer)
  const customer = sandbox.all('customer').find((candidate) => candidate.id === world.customer)
  for (const invoice of sandbox.all('invoice')) {
    if (invoice.customer !== world.customer || invoice.ending_balance === null) continue
    const applied = entries.filter((entry) => entry.invoice === invoice.id && APPLYING.has(entry.type))
    expect(sum(applied), `${invoice.id}: what the balance gave or took`).toBe(invoice.ending_balance - invoice.starting_balance)
  }
  expect(sum(entries), 'the customer balance is the sum of its transactions').toBe(customer?.balance)
}

/** Each period begins where the one before it ended, unless the cycle was moved on purpose. */
function checkPeriods(world: World, subscription: Stored<'subscription'>): void {
  const snapshots = world.bench
    .events()
    .map((event) => event.data.object as Stripe.Subscription)
    .filter((object) => object.object === 'subscription' && object.id === subscription.id)
  const wasPaused = snapshots.some((snapshot) => snapshot.status === 'paused')
  for (const [position, after] of snapshots.entries()) {
    const before = snapshots[position - 1]
    if (before === undefined || wasPaused) continue
    for (const item of after.items.data) {
      const old = before.items.data.find((candidate) => candidate.id === item.id)
      expect(item.current_period_end).toBeGreaterThan(item.current_period_start)
      if (old === undefined || old.current_period_start === item.current_period_start) continue
      const moved = before.billing_cycle_anchor !== after.billing_cycle_anchor || old.price.id !== item.price.id
      if (moved) expect(item.current_period_start, 'a hole').toBeLessThanOrEqual(old.current_period_end)
      else expect(item.current_period_start, 'a hole or an overlap').toBe(old.current_period_end)
    }
  }
}

/** What the API answers now is what the last event about the object told. */
async function checkTold(world: World): Promise<void> {
  const { stripe, sandbox } = world.bench
  const last = new Map<string, unknown>()
  for (const event of sandbox.all('event')) {
    const object = event.data.object as { id?: string }
    if (object.id !== undefined) last.set(object.id, object)
  }
  const subscriptions = (await stripe.subscriptions.list({ customer: world.customer, status: 'all', limit: 100 })).data
  for (const subscription of subscriptions)
    expect(plain(last.get(subscription.id)), `${subscription.id} was told`).toEqual(plain(subscription))
  expect(plain(last.get(world.customer)), 'the customer was told').toEqual(plain(await stripe.customers.retrieve(world.customer)))
  const invoices = (await stripe.invoices.list({ customer: world.customer, limit: 100 })).data
  for (const invoice of invoices) expect(plain(last.get(invoice.id)), `${invoice.id} was told`).toEqual(plain(invoice))
}

/** Not told on Stripe either: the number of the next invoice; and what only an answer carries. */
const UNTOLD: ReadonlySet<string> = new Set(['next_invoice_sequence', 'lastResponse'])

/** As JSON, for comparing an answer with an event's snapshot. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value, (key, member: unknown) => (UNTOLD.has(key) ? undefined : member))) as unknown
}

async function checkAll(world: World): Promise<void> {
  const { sandbox } = world.bench
  const invoices = sandbox.all('invoice').filter((invoice) => invoice.customer === world.customer)
  for (const invoice of invoices) {
    checkInvoice(invoice)
    checkPayments(world, invoice)
  }
  checkBalance(world)
  for (const subscription of sandbox.all('subscription'))
    if (subscription.customer === world.customer) checkPeriods(world, subscription)
  await checkTold(world)
  const ids = sandbox.all('event').map((event) => event.id)
  expect(new Set(ids).size, 'ids are unique').toBe(ids.length)
  const numbers = invoices.flatMap((invoice) => (invoice.number === null ? [] : [invoice.number]))
  expect(new Set(numbers).size, 'numbers are unique').toBe(numbers.length)
}

async function makeWorld(bench: BillingBench, prices: readonly string[], coupons: readonly string[]): Promise<World> {
  const { id, clock, card } = await bench.customer()
  const bad = await bench.stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer: id })
  return { bench, customer: id, clock, prices, coupons, cards: { good: card ?? '', bad: bad.id } }
}

test('billing adds up, whatever is done to it', async () => {
  const bench = await startBillingBench()
  const { stripe } = bench
  const prices = [
    (await bench.price(700)).id,
    (await bench.price(1900)).id,
    (await bench.price(333, { recurring: { interval: 'week' } })).id,
    (await bench.price(9999, { recurring: { interval: 'year' } })).id,
  ]
  const coupons = [
    (await stripe.coupons.create({ percent_off: 33.3, duration: 'forever' })).id,
    (await stripe.coupons.create({ amount_off: 250, currency: 'usd', duration: 'once' })).id,
    (await stripe.coupons.create({ percent_off: 10, duration: 'repeating', duration_in_months: 1 })).id,
  ]
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 20 }), async (steps) => {
      const world = await makeWorld(bench, prices, coupons)
      await take(world, FIRST)
      for (const next of steps) await take(world, next)
      await checkAll(world)
    }),
    { numRuns: 25, seed: 20260115 },
  )
})
