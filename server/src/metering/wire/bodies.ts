import { z } from '@hono/zod-openapi'
import type { Instant } from '../../lib/clock.ts'
import { quantityToJson, type Quantity } from '../../lib/quantity.ts'
import type { BalanceSnapshot, LateUse, Spending, UsageAnswer } from '../usage.ts'

const quantity = z.union([z.number(), z.string()]).meta({
  description: 'A JSON number where a double holds it exactly, else a decimal string.',
})

export const balanceSchema = z
  .object({
    balance: z.string(),
    unit: z.string(),
    plan: z.string(),
    amount: quantity.nullable().meta({ description: 'Granted in all; null is unlimited.' }),
    used: quantity,
    remaining: quantity.nullable().meta({ description: 'What may still be used; null is unlimited.' }),
    overage: quantity.meta({ description: 'Used beyond the amount.' }),
    reserved: quantity.meta({ description: 'Held by open reservations.' }),
    period: z.enum(['billing_cycle', 'calendar_month', 'day', 'year', 'lifetime']),
    period_start: z.iso.datetime(),
    period_end: z.iso.datetime().nullable(),
  })
  .openapi('Balance')

/** A balance where it is read by itself: with what the plan lets its overage cost. */
export const ownBalanceSchema = balanceSchema
  .extend({
    spend_limit_minor: z.int().nullable().meta({
      description:
        'What use beyond the amount may cost in the period; null without a limit. More is refused as `spend_limit_reached`.',
    }),
    spent_minor: z.int().nullable().meta({
      description: 'What of that limit is spent, or held by open reservations. `track`, which is never refused, may exceed it.',
    }),
    currency: z.string().nullable().meta({ description: 'Of both.' }),
  })
  .openapi('OwnBalance')

export type OwnBalanceBody = z.infer<typeof ownBalanceSchema>

/** Of use that was told when what bills its time was over. */
export const lateSchema = z
  .object({
    period_start: z.iso.datetime().meta({ description: 'The period in which it counts: `balance` is that period’s.' }),
    period_end: z.iso.datetime().nullable(),
    invoice: z.enum(['open', 'closed', 'none']).meta({
      description:
        'The invoice that bills its time, when the use was told. `none`: nothing billed the balance at that time (before a subscription, in a trial, under a plan without a price for it).',
    }),
    billed_on: z.enum(['own_invoice', 'next_invoice', 'credit']).nullable().meta({
      description:
        'Where what is not included is billed. `credit`: what was taken back and had been charged comes back to the customer’s balance at Stripe, `credited_minor` of its line in the statement. null: nowhere, it is free.',
    }),
  })
  .openapi('LateUse')

export const answerSchema = z
  .object({
    allowed: z.boolean(),
    code: z
      .enum(['quota_exceeded', 'spend_limit_reached', 'rate_limited', 'not_included', 'suspended', 'paused', 'taken_back'])
      .optional()
      .meta({ description: 'Why it was refused.' }),
    reason: z.string().optional(),
    id: z
      .string()
      .nullable()
      .meta({ description: 'The event that was recorded, of a hold the reservation; null where nothing was.' }),
    meter: z.string(),
    quantity,
    balance: balanceSchema,
    credits_used: quantity.meta({ description: 'What this use took from the balance.' }),
    total_credits_used: quantity,
    quota_remaining: quantity.nullable(),
    quota_exceeded: z.boolean(),
    late: lateSchema.optional(),
    spend_limit_minor: z.int().optional().meta({ description: 'Of what was refused as `spend_limit_reached`: the limit.' }),
    spent_minor: z.int().optional().meta({ description: 'What of that limit was spent or held then.' }),
    currency: z.string().optional().meta({ description: 'Of both.' }),
    retry_after: z.int().optional().meta({ description: 'Of a use that came too fast: seconds until it would be allowed.' }),
    reservation_id: z.string().optional(),
    expires_at: z.iso.datetime().optional(),
  })
  .openapi('UsageAnswer')

/** An item of a batch that was wrong: its problem document. */
export const problemItemSchema = z
  .object({ allowed: z.literal(false), error: z.looseObject({ code: z.string(), detail: z.string() }) })
  .openapi('UsageProblem')

export type BalanceBody = z.infer<typeof balanceSchema>
export type LateBody = z.infer<typeof lateSchema>
export type AnswerBody = z.infer<typeof answerSchema>

/** What a balance is counted in, by its name. */
export type UnitOf = (balanceKey: string) => string

export function balanceBody(balance: BalanceSnapshot, unitOf: UnitOf): BalanceBody {
  return {
    balance: balance.balanceKey,
    unit: unitOf(balance.balanceKey),
    plan: balance.planKey,
    amount: orNull(balance.amount),
    used: quantityToJson(balance.used),
    remaining: orNull(balance.remaining),
    overage: quantityToJson(balance.overage),
    reserved: quantityToJson(balance.reserved),
    period: balance.period,
    period_start: isoText(balance.periodStart),
    period_end: balance.periodEnd && isoText(balance.periodEnd),
  }
}

/** An answer as it travels, with the fields of EM-3. */
export function answerBody(answer: UsageAnswer, unitOf: UnitOf): AnswerBody {
  const balance = balanceBody(answer.balance, unitOf)
  const body: AnswerBody = {
    allowed: answer.allowed,
    // What the caller names next: a hold by its reservation, everything else by its event.
    id: answer.verb === 'reserve' && answer.reservation !== null ? answer.reservation.id : answer.eventId,
    meter: answer.meter,
    quantity: quantityToJson(answer.quantity),
    balance,
    credits_used: quantityToJson(answer.drawn),
    total_credits_used: quantityToJson(totalUsed(answer.balance)),
    quota_remaining: balance.remaining,
    quota_exceeded: isQuotaExceeded(answer),
  }
  if (answer.code !== null) body.code = answer.code
  if (answer.reason !== null) body.reason = answer.reason
  if (answer.late !== null) body.late = lateBody(answer.late, answer.balance)
  if (answer.spending !== null) Object.assign(body, spendingBody(answer.spending))
  if (answer.retryAfterMs !== null) body.retry_after = retryAfterOf(answer.retryAfterMs)
  if (answer.reservation !== null) {
    body.reservation_id = answer.reservation.id
    if (answer.reservation.expiresAt) body.expires_at = answer.reservation.expiresAt.toISOString()
  }
  return body
}

function spendingBody({ limitMinor, spentMinor, currency }: Spending) {
  return { spend_limit_minor: limitMinor, spent_minor: spentMinor, currency }
}

/** The limit of spending of a balance that is read by itself; all null without one. */
export function ownSpendingBody(spending: Spending | null) {
  return spending === null ? { spend_limit_minor: null, spent_minor: null, currency: null } : spendingBody(spending)
}

const LATE_BODIES: Readonly<Record<LateUse, Pick<LateBody, 'invoice' | 'billed_on'>>> = {
  open: { invoice: 'open', billed_on: 'own_invoice' },
  closed: { invoice: 'closed', billed_on: 'next_invoice' },
  credited: { invoice: 'closed', billed_on: 'credit' },
  ended: { invoice: 'closed', billed_on: null },
  free: { invoice: 'none', billed_on: null },
}

export function lateBody(late: LateUse, { periodStart, periodEnd }: BalanceSnapshot): LateBody {
  return { period_start: isoText(periodStart), period_end: periodEnd && isoText(periodEnd), ...LATE_BODIES[late] }
}

// Printable ASCII but for quote and backslash, which JSON escapes: such a name is written as it is.
const PLAIN = /^[ !#-[\]-~]*$/

function jsonText(text: string): string {
  return PLAIN.test(text) ? `"${text}"` : JSON.stringify(text)
}

function jsonQuantity(quantity: Quantity | null): string {
  if (quantity === null) return 'null'
  const value = quantityToJson(quantity)
  return typeof value === 'number' ? String(value) : `"${value}"`
}

/**
 * The JSON text of `answerBody`, written directly: 1.6 µs instead of 3.8 µs, on the way of every call.
 * A property test holds both to the same text.
 */
export function answerText(answer: UsageAnswer, unitOf: UnitOf): string {
  const { balance } = answer
  const remaining = jsonQuantity(balance.remaining)
  const end = balance.periodEnd === null ? 'null' : `"${isoText(balance.periodEnd)}"`
  let text = `{"allowed":${answer.allowed},"id":${answer.eventId === null ? 'null' : jsonText(answer.eventId)},"meter":${jsonText(answer.meter)}`
  text += `,"quantity":${jsonQuantity(answer.quantity)},"balance":{"balance":${jsonText(balance.balanceKey)}`
  text += `,"unit":${jsonText(unitOf(balance.balanceKey))},"plan":${jsonText(balance.planKey)},"amount":${jsonQuantity(balance.amount)}`
  text += `,"used":${jsonQuantity(balance.used)},"remaining":${remaining},"overage":${jsonQuantity(balance.overage)}`
  text += `,"reserved":${jsonQuantity(balance.reserved)},"period":"${balance.period}","period_start":"${isoText(balance.periodStart)}"`
  text += `,"period_end":${end}},"credits_used":${jsonQuantity(answer.drawn)},"total_credits_used":${jsonQuantity(totalUsed(balance))}`
  text += `,"quota_remaining":${remaining},"quota_exceeded":${isQuotaExceeded(answer)}`
  if (answer.code !== null) text += `,"code":"${answer.code}"`
  if (answer.reason !== null) text += `,"reason":${jsonText(answer.reason)}`
  if (answer.late !== null) text += `,"late":${JSON.stringify(lateBody(answer.late, answer.balance))}`
  if (answer.spending !== null) text += `,${JSON.stringify(spendingBody(answer.spending)).slice(1, -1)}`
  if (answer.retryAfterMs !== null) text += `,"retry_after":${retryAfterOf(answer.retryAfterMs)}`
  if (answer.reservation !== null) {
    text += `,"reservation_id":${jsonText(answer.reservation.id)}`
    if (answer.reservation.expiresAt) text += `,"expires_at":"${answer.reservation.expiresAt.toISOString()}"`
  }
  return `${text}}`
}

/** Whole seconds, so long that the use is allowed then. */
export function retryAfterOf(retryAfterMs: number): number {
  return Math.ceil(retryAfterMs / 1_000)
}

function isQuotaExceeded({ code, balance }: UsageAnswer): boolean {
  return code === 'quota_exceeded' || isUsedUp(balance)
}

/** Used in all, overage included. */
export function totalUsed(balance: BalanceSnapshot): Quantity {
  return balance.used + balance.overage
}

/** Whether nothing more of a limited balance may be used. */
export function isUsedUp(balance: BalanceSnapshot): boolean {
  return balance.remaining !== null && balance.remaining <= 0n
}

/** The headers of a metered answer (EM-5): used, remaining and total, and a warning under a tenth left. */
export function creditHeaders(balance: BalanceSnapshot): Record<string, string> {
  const headers: Record<string, string> = {
    'X-Credits-Used': String(quantityToJson(totalUsed(balance))),
    'X-Credits-Remaining': String(orNull(balance.remaining) ?? 'unlimited'),
    'X-Credits-Total': String(orNull(balance.amount) ?? 'unlimited'),
  }
  const { amount, remaining } = balance
  if (amount !== null && remaining !== null && remaining * 10n < amount) {
    headers['X-Quota-Warning'] = `${headers['X-Credits-Remaining']} of ${headers['X-Credits-Total']} left in this period`
  }
  return headers
}

function orNull(value: Quantity | null): number | string | null {
  return value === null ? null : quantityToJson(value)
}

// A period's bounds stand in every answer of its time; writing one out takes 0.4 µs, which is a tenth of an answer.
const MOST_TEXTS = 1_000
const isoTexts = new Map<number, string>()

function isoText(moment: Instant): string {
  const time = moment.getTime()
  let text = isoTexts.get(time)
  if (text === undefined) {
    if (isoTexts.size >= MOST_TEXTS) isoTexts.clear()
    text = moment.toISOString()
    isoTexts.set(time, text)
  }
  return text
}
