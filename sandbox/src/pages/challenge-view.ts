import type { Html } from './html.ts'
import { html } from './html.ts'
import { renderMessage, renderPage } from './layout.ts'
import { formatMoney } from './money.ts'

export interface ChallengeView {
  /** "Visa ending in 4242" */
  readonly card: string
  /** What is authenticated: an amount, or null when a card is being saved. */
  readonly payment: { readonly amount: number; readonly currency: string } | null
}

/** The bank's page of a 3D Secure challenge: the tester plays the card's holder. */
export function renderChallenge(view: ChallengeView): Html {
  const purpose = view.payment === null ? 'save this card' : `pay ${formatMoney(view.payment.amount, view.payment.currency)}`
  return renderPage({
    title: '3D Secure authentication',
    body: html`<form class="card" method="post">
      <h1>3D Secure authentication</h1>
      <p>Your bank asks whether it is you who wants to ${purpose} with ${view.card}.</p>
      <p class="quiet small">This is a test: choose how the authentication ends.</p>
      <div class="actions">
        <button name="outcome" value="complete">Complete authentication</button>
        <button class="plain" name="outcome" value="fail">Fail authentication</button>
      </div>
    </form>`,
  })
}

/** Shown when a challenge has no way back, or was answered before. */
export function renderChallengeDone(outcome: 'succeeded' | 'failed' | 'over'): Html {
  const texts = {
    succeeded: { title: 'Authentication complete', text: 'You can close this page.' },
    failed: { title: 'Authentication failed', text: 'The payment did not go through. Go back and try another card.' },
    over: { title: 'Nothing to authenticate', text: 'This authentication was answered already, or is no longer asked for.' },
  }
  return renderMessage(texts[outcome])
}
