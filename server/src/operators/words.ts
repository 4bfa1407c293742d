import type { Instant } from '../lib/clock.ts'
import type { Standing } from '../standing/rules.ts'

/** Why an organization stands where it stands, as a sentence for people. Pure. */
export function describeStanding(standing: Standing): string {
  const until = standing.until === null ? '' : `, until ${dayOf(standing.until)}`
  const since = standing.since === null ? '' : ` since ${dayOf(standing.since)}`
  const plan = `the plan ${standing.planKey}`
  switch (standing.reason) {
    case 'no_subscription':
      return `It never subscribed, and uses ${plan}.`
    case 'subscription_ended':
      return `Its subscription ended${standing.since === null ? '' : ` on ${dayOf(standing.since)}`}; it uses ${plan}.`
    case 'payment_pending':
      return `The first payment of its subscription is not made yet; it uses ${plan}.`
    case 'in_trial':
      return `It tries ${plan}${until}.`
    case 'paid':
      return `It has paid for ${plan}${until}.`
    case 'payment_failed_in_grace':
      return `A payment has been failing${since}; it may go on using ${plan}${until}, and is suspended then.`
    case 'payment_failed':
      return `A payment failed and the days of grace are over; it is suspended${since}.`
    case 'collection_paused':
      return `Its subscription is paused; it may not use the product.`
    case 'trial_ended':
      return standing.mayUse
        ? `Its trial ended${since}; it uses ${plan}.`
        : `Its trial ended${since} without a payment method; it is paused.`
    case 'override':
      return `An operator set it by hand: ${standing.state} on ${plan}${until}.`
  }
}

function dayOf(at: Instant): string {
  return `${at.toISOString().slice(0, 16).replace('T', ' ')} UTC`
}
