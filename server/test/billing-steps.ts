import fc from 'fast-check'
import { HOUR_MS } from '../src/lib/period.ts'
import { reportNow } from '../src/pricing/actions.ts'
import type { TestUse } from './used.ts'

/** What happens with any catalog: something used is taken back in part, use is reported, time passes. */
export const correction = fc.record({ kind: fc.constant('correct' as const), part: fc.integer({ min: 1, max: 100 }) })
export const reporting = fc.record({ kind: fc.constant('report' as const) })
export const passing = (days: number) =>
  fc.record({ kind: fc.constant('advance' as const), hours: fc.integer({ min: 1, max: 24 * days }) })

/** What a customer of `USE_CATALOG` does, and time. */
export const billingStep = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('use' as const),
      meter: fc.constantFrom('calls', 'tokens', 'agents'),
      quantity: fc.integer({ min: 0, max: 400_000 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('tell' as const),
      quantity: fc.integer({ min: 0, max: 400_000 }),
      hoursAgo: fc.integer({ min: 1, max: 24 * 34 }),
    }),
  },
  { weight: 2, arbitrary: correction },
  { weight: 3, arbitrary: passing(40) },
  { weight: 1, arbitrary: reporting },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('switch' as const),
      plan: fc.constantFrom('starter', 'pro'),
      interval: fc.constantFrom('monthly', 'yearly'),
      at: fc.constantFrom('now', 'period_end'),
      quantity: fc.integer({ min: 1, max: 3 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('pause' as const, 'resume' as const) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('cancel' as const), immediate: fc.boolean() }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('subscribe' as const),
      plan: fc.constantFrom('starter', 'pro'),
      interval: fc.constantFrom('monthly', 'yearly'),
    }),
  },
)
export type BillingStep = typeof billingStep extends fc.Arbitrary<infer S> ? S : never
type CommonStep = Extract<BillingStep, { kind: 'correct' | 'advance' | 'report' }>

/** Which part of a step's quantity each meter is used by: calls in fractions, agents in single ones. */
const AMOUNT = { calls: 1_000n, tokens: 10_000n, agents: 50_000_000_000n }

/** What an organization has used in earlier steps, to be corrected. */
export type UsedBySteps = { key: string; quantity: number }[]
type Taker = { readonly id: string; readonly used: UsedBySteps }

export async function takeCommon(billing: TestUse, { id, used }: Taker, each: CommonStep): Promise<void> {
  switch (each.kind) {
    case 'correct': {
      const last = used.findLast(({ key, quantity }) => key !== '' && quantity > 0)
      if (last === undefined) return
      const back = Math.ceil((last.quantity * each.part) / 100)
      last.quantity -= back
      await billing.correct(id, last.key, -back)
      return
    }
    case 'advance':
      return billing.advance(id, `${each.hours}h`)
    case 'report':
      return reportNow(billing.context, id)
  }
}

/** Takes a step. One that is not possible now is refused, and changes nothing. */
export async function take(billing: TestUse, { id, used }: Taker, each: BillingStep): Promise<void> {
  switch (each.kind) {
    case 'use': {
      const micro =
        each.meter === 'agents' ? BigInt(each.quantity % 12) * 1_000_000n : BigInt(each.quantity) * AMOUNT[each.meter as 'calls']
      const quantity = `${micro / 1_000_000n}.${(micro % 1_000_000n).toString().padStart(6, '0')}`
      const key = `${id}-${used.length}`
      await billing.use(id, each.meter, quantity, { key })
      if (each.meter === 'calls') used.push({ key, quantity: Math.floor(Number(micro) / 1_000_000) })
      else used.push({ key: '', quantity: 0 })
      return
    }
    case 'tell': {
      const key = `${id}-${used.length}`
      const occurredAt = new Date((await billing.nowOf(id)).getTime() - each.hoursAgo * HOUR_MS)
      await billing.use(id, 'calls', `${each.quantity / 1_000}`, { key, occurredAt })
      used.push({ key, quantity: Math.floor(each.quantity / 1_000) })
      return
    }
    case 'correct':
    case 'advance':
    case 'report':
      return takeCommon(billing, { id, used }, each)
    case 'switch': {
      const { plan: new_tier, interval, at, quantity } = each
      return change(billing, id, { route: 'upgrade', body: { new_tier, interval, at, quantity } })
    }
    case 'pause':
    case 'resume':
      return change(billing, id, { route: each.kind })
    case 'cancel':
      return change(billing, id, { route: 'cancel', body: { immediate: each.immediate } })
    case 'subscribe':
      // One that ended in this second began a period in it at most, and this one would be in the same.
      await billing.advance(id, '2s')
      return change(billing, id, {
        route: 'subscribe',
        body: { tier: each.plan, interval: each.interval, payment_method_id: 'pm_card_visa' },
      })
  }
}

/** A change that may not be possible now: it is then refused, and changes nothing. */
export async function change(
  billing: TestUse,
  id: string,
  { route, body = {} }: { readonly route: string; readonly body?: object },
): Promise<void> {
  const answer = await billing.call(id, 'POST', `/api/v1/billing/${route}`, body)
  if (![200, 404, 409].includes(answer.status)) throw new Error(`${route} ${answer.status} ${JSON.stringify(answer.body)}`)
}
