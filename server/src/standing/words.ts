import type { Standing, StandingReason } from './rules.ts'

const WORDS: Readonly<Record<StandingReason, string>> = {
  no_subscription: 'There is no subscription; the free plan counts.',
  subscription_ended: 'The subscription has ended; the free plan counts.',
  payment_pending: 'The first payment has not been made yet; what was there before counts.',
  never_paid: 'The first payment was never made, so the subscription did not begin; the free plan counts.',
  in_trial: 'The trial is running.',
  paid: 'The subscription is paid.',
  payment_failed_in_grace: 'A payment failed or was charged back. Use goes on until the days of grace are over.',
  payment_failed: 'A payment failed or was charged back, and the days of grace are over. Use stops until it is paid.',
  collection_paused: 'The subscription is paused.',
  trial_ended: 'The trial has ended.',
  override: 'An operator decided it.',
}

/** The reason for a standing in one sentence, for people. */
export function reasonInWords({ reason }: Pick<Standing, 'reason'>): string {
  return WORDS[reason]
}
