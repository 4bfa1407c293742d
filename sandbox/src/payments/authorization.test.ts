import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { authorize, type Attempt } from './authorization.ts'
import { findTestCardByNumber, testCards } from './test-cards.ts'

const present: Attempt = { purpose: 'payment', offSession: false, setUp: false, authenticated: false, challengeRequested: false }

function ask(number: string, change: Partial<Attempt> = {}): string {
  const card = findTestCardByNumber(number)
  if (card === undefined) throw new Error(`not a test card: ${number}`)
  const answer = authorize(card, { ...present, ...change })
  return answer.kind === 'declined' ? answer.reason : answer.kind
}

describe('what the bank of a test card answers', () => {
  it('4000 0025 0000 3155 asks for authentication when the holder is there, and without them until it is set up', () => {
    expect(ask('4000002500003155')).toBe('challenge')
    expect(ask('4000002500003155', { authenticated: true })).toBe('approved')
    expect(ask('4000002500003155', { purpose: 'setup' })).toBe('challenge')
    expect(ask('4000002500003155', { offSession: true })).toBe('authentication_required')
    expect(ask('4000002500003155', { offSession: true, setUp: true })).toBe('approved')
    expect(ask('4000002500003155', { setUp: true })).toBe('challenge')
  })

  it('4000 0027 6000 3184 asks every time, set up or not', () => {
    expect(ask('4000002760003184', { setUp: true })).toBe('challenge')
    expect(ask('4000002760003184', { offSession: true, setUp: true })).toBe('authentication_required')
  })

  it('4000 0084 0000 1629 is declined after the authentication, not before', () => {
    expect(ask('4000008400001629')).toBe('challenge')
    expect(ask('4000008400001629', { authenticated: true })).toBe('generic_decline')
  })

  it('4000 0038 0000 0446 needs no set-up for payments without the holder', () => {
    expect(ask('4000003800000446')).toBe('challenge')
    expect(ask('4000003800000446', { offSession: true })).toBe('approved')
  })

  it('asks 3055 for a challenge only when the payment wants one', () => {
    expect(ask('4000000000003055')).toBe('approved')
    expect(ask('4000000000003055', { challengeRequested: true })).toBe('challenge')
  })

  it('saves 0341 and 9995 and declines them when charged; refuses to save the other declining cards', () => {
    for (const number of ['4000000000000341', '4000000000009995']) {
      expect(ask(number, { purpose: 'setup' })).toBe('approved')
      expect(ask(number)).not.toBe('approved')
    }
    expect(ask('4000000000000002', { purpose: 'setup' })).toBe('generic_decline')
    expect(ask('4000000000000069', { purpose: 'setup' })).toBe('expired_card')
  })

  it('never asks for a second challenge, and never challenges a holder who is not there', () => {
    const attempts = fc.record({
      purpose: fc.constantFrom('payment' as const, 'setup' as const),
      offSession: fc.boolean(),
      setUp: fc.boolean(),
      authenticated: fc.boolean(),
      challengeRequested: fc.boolean(),
    })
    fc.assert(
      fc.property(fc.constantFrom(...testCards), attempts, (card, attempt) => {
        const answer = authorize(card, attempt)
        expect(answer.kind === 'challenge' && (attempt.authenticated || attempt.offSession)).toBe(false)
      }),
    )
  })
})
