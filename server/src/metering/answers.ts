import type { AllowancePeriod } from '../catalog/define.ts'
import { formatQuantity } from '../lib/quantity.ts'
import type { BalanceSnapshot, RefusalCode, UsageAnswer, UsageEvent } from './usage.ts'

/** The answer that an event gave and gives again; made from what is stored and nothing else. */
export function answerOf(event: UsageEvent, replayed: boolean): UsageAnswer {
  return {
    verb: event.verb,
    allowed: event.refusal === null,
    code: event.refusal,
    reason: event.refusal && reasonOf(event.refusal, event.after),
    eventId: event.id,
    organizationId: event.organizationId,
    meter: event.meter,
    quantity: event.quantity,
    drawn: event.verb === 'reserve' ? 0n : event.drawn,
    balance: event.after,
    reservation: event.reservationId === null ? null : { id: event.reservationId, expiresAt: event.heldUntil },
    replayed,
  }
}

/** A refusal in a sentence fit to be shown. The quota's form is EM-4's. */
export function reasonOf(code: RefusalCode, balance: BalanceSnapshot): string {
  const what = balance.balanceKey.replaceAll('_', ' ')
  switch (code) {
    case 'quota_exceeded': {
      const limit = formatQuantity(balance.amount ?? 0n)
      return `${PERIOD_WORDS[balance.period]} exceeded. Used ${formatQuantity(balance.used)}/${limit} ${what}.`
    }
    case 'not_included':
      return `The plan ${balance.planKey} does not include ${what}.`
    case 'suspended':
      return 'The account is suspended because a payment failed. Use is possible again once the open invoice is paid.'
    case 'paused':
      return 'The subscription is paused. Use is possible again once it is resumed.'
  }
}

const PERIOD_WORDS: Readonly<Record<AllowancePeriod, string>> = {
  billing_cycle: 'Monthly quota',
  calendar_month: 'Monthly quota',
  day: 'Daily quota',
  year: 'Yearly quota',
  lifetime: 'Quota',
}
