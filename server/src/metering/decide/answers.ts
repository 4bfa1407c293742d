import type { RateLimit } from '../../catalog/catalog.ts'
import type { AllowancePeriod } from '../../catalog/define.ts'
import { formatMajor } from '../../lib/money.ts'
import { formatQuantity } from '../../lib/quantity.ts'
import { STOPPED_IN_WORDS } from '../../standing/rules.ts'
import type { BalanceSnapshot, RefusalCode, Spending, UsageAnswer, UsageEvent } from '../usage.ts'

/** The answer that an event gave and gives again; made from what is stored and nothing else. */
export function answerOf(event: UsageEvent, replayed: boolean): UsageAnswer {
  return {
    verb: event.verb === 'retract' ? 'correct' : event.verb,
    allowed: event.refusal === null,
    code: event.refusal,
    reason: event.refusal && reasonOf(event.refusal, event.after, event),
    eventId: event.id,
    organizationId: event.organizationId,
    meter: event.meter,
    quantity: event.quantity,
    drawn: event.verb === 'reserve' ? 0n : event.drawn,
    balance: event.after,
    reservation: event.reservationId === null ? null : { id: event.reservationId, expiresAt: event.heldUntil },
    late: event.late,
    spending: event.spending,
    retryAfterMs: null,
    replayed,
  }
}

/** The answer of a key whose use was taken back since: what it permitted it permits no more, and it takes nothing. */
export function takenBackAnswer(event: UsageEvent): UsageAnswer {
  const code = 'taken_back'
  return { ...answerOf(event, true), allowed: false, code, reason: reasonOf(code, event.after, event), drawn: 0n }
}

/** What is decided of a request that is not stored. */
export type Unstored = Pick<UsageAnswer, 'code' | 'balance'> & {
  readonly spending?: Spending | null
  readonly retryAfterMs?: number
  /** The limit of pace that it is larger than. */
  readonly tooLargeFor?: RateLimit
}

/** The answer to what is not stored: a question, or a use that came too fast, whose key may be used again. */
export function unstoredAnswer(
  request: Pick<UsageAnswer, 'verb' | 'organizationId' | 'meter' | 'quantity'>,
  decided: Unstored,
): UsageAnswer {
  const { verb, organizationId, meter, quantity } = request
  const { code, balance, spending = null, retryAfterMs = null, tooLargeFor } = decided
  const refused = { meter, spending }
  return {
    verb,
    allowed: code === null,
    code,
    reason: code && (tooLargeFor ? neverFits(request, tooLargeFor, balance) : reasonOf(code, balance, refused)),
    eventId: null,
    organizationId,
    meter,
    quantity,
    drawn: 0n,
    balance,
    reservation: null,
    late: null,
    spending,
    retryAfterMs,
    replayed: false,
  }
}

function neverFits(
  { meter, quantity }: Pick<UsageAnswer, 'meter' | 'quantity'>,
  { limit, seconds }: RateLimit,
  { planKey }: BalanceSnapshot,
) {
  const pace = `${formatQuantity(limit)} of ${meter.replaceAll('_', ' ')} in ${seconds} second${seconds === 1 ? '' : 's'}`
  return `${formatQuantity(quantity)} at once never fits: the plan ${planKey} allows ${pace}.`
}

/** A refusal in a sentence fit to be shown. The quota's form is EM-4's. */
export function reasonOf(
  code: RefusalCode,
  balance: BalanceSnapshot,
  { meter, spending }: { readonly meter: string; readonly spending: Spending | null },
): string {
  const what = balance.balanceKey.replaceAll('_', ' ')
  switch (code) {
    case 'quota_exceeded': {
      const limit = formatQuantity(balance.amount ?? 0n)
      const held =
        balance.reserved > 0n ? ` ${formatQuantity(balance.reserved)} more are held until they are settled or released.` : ''
      return `${PERIOD_WORDS[balance.period]} exceeded. Used ${formatQuantity(balance.used)}/${limit} ${what}.${held}`
    }
    case 'spend_limit_reached': {
      const sentence = `Use beyond the included ${formatQuantity(balance.amount ?? 0n)} ${what} would cost more than the limit of spending`
      if (spending === null) return `${sentence}.`
      const { currency, limitMinor, spentMinor } = spending
      const [limit, spent] = [limitMinor, spentMinor].map((amountMinor) => formatMajor({ amountMinor, currency }))
      return `${sentence}, ${limit} ${currency.toUpperCase()}. Of it ${spent} ${currency.toUpperCase()} is spent or held.`
    }
    case 'rate_limited':
      // A pace is a meter's own, whatever it draws from.
      return `The plan ${balance.planKey} allows no faster use of ${meter.replaceAll('_', ' ')}. Try again shortly.`
    case 'not_included':
      return `The plan ${balance.planKey} does not include ${what}.`
    case 'suspended':
    case 'paused':
      return STOPPED_IN_WORDS[code]
    case 'taken_back':
      return 'What was asked under this key was taken back. To use it after all, ask under a new key.'
  }
}

const PERIOD_WORDS: Readonly<Record<AllowancePeriod, string>> = {
  billing_cycle: 'Monthly quota',
  calendar_month: 'Monthly quota',
  day: 'Daily quota',
  year: 'Yearly quota',
  lifetime: 'Quota',
}
