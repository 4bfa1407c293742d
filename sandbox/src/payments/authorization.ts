import type { CardOutcome, DeclineReason } from './test-cards.ts'

/** What is asked of a card's bank. */
export interface Attempt {
  /** A payment, or the check that comes with attaching or setting up a card. */
  readonly purpose: 'payment' | 'setup'
  /** The holder is not there and cannot answer a challenge. */
  readonly offSession: boolean
  /** The holder authenticated later use before. */
  readonly setUp: boolean
  /** The holder has just answered a challenge. */
  readonly authenticated: boolean
  /** `request_three_d_secure` asks for a challenge wherever the card knows one. */
  readonly challengeRequested: boolean
}

export type Authorization =
  | { readonly kind: 'approved' }
  | { readonly kind: 'challenge' }
  | { readonly kind: 'declined'; readonly reason: DeclineReason | 'authentication_required' }

function wantsChallenge(card: CardOutcome, attempt: Attempt): boolean {
  switch (card.authentication ?? 'none') {
    case 'none':
      return false
    case 'on_request':
      return attempt.challengeRequested && !attempt.offSession
    case 'on_session':
      return !attempt.offSession
    case 'unless_set_up':
      return !attempt.offSession || !attempt.setUp
    case 'already_set_up':
      return attempt.purpose === 'payment' && !attempt.offSession
    case 'always':
      return true
  }
}

/**
 * What the bank of a test card answers. Source: https://docs.stripe.com/testing (declined payments, 3D Secure).
 * A blocked card is refused before its bank is asked; a challenge comes before the bank's own answer.
 */
export function authorize(card: CardOutcome, attempt: Attempt): Authorization {
  if (card.risk === 'highest') return { kind: 'declined', reason: 'fraudulent' }
  if (wantsChallenge(card, attempt) && !attempt.authenticated) {
    if (attempt.offSession) return { kind: 'declined', reason: 'authentication_required' }
    if (card.authenticationFails === true) return { kind: 'declined', reason: 'generic_decline' }
    return { kind: 'challenge' }
  }
  const refuses = attempt.purpose === 'payment' || card.refusesAttach === true
  return card.decline !== undefined && refuses ? { kind: 'declined', reason: card.decline } : { kind: 'approved' }
}
