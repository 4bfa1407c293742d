import { describe, expect, it } from 'vitest'
import { findTestCardById, findTestCardByKey, findTestCardByNumber, isCardNumber, testCards } from './test-cards.ts'

describe('the table of test cards', () => {
  it('holds only numbers with a valid check digit, each once, with one key each', () => {
    for (const card of testCards) expect(isCardNumber(card.number)).toBe(true)
    expect(new Set(testCards.map((card) => card.number)).size).toBe(testCards.length)
    expect(new Set(testCards.map((card) => card.key)).size).toBe(testCards.length)
  })

  it.each([
    ['4242 4242 4242 4242', undefined],
    ['4000-0000-0000-0002', 'generic_decline'],
    ['4000 0000 0000 9995', 'insufficient_funds'],
    ['4000000000009987', 'lost_card'],
    ['4000000000009979', 'stolen_card'],
    ['4000000000000069', 'expired_card'],
    ['4000000000000127', 'incorrect_cvc'],
    ['4000000000000119', 'processing_error'],
    ['4000000000000341', 'generic_decline'],
  ])('declines %s for the reason %s', (number, reason) => {
    expect(findTestCardByNumber(number)?.decline).toBe(reason)
  })

  it('finds one card under its number, its pm_card id, its token and its key', () => {
    const card = findTestCardByNumber('4000002500003155')
    expect(card?.authentication).toBe('unless_set_up')
    expect(findTestCardById('pm_card_authenticationRequiredOnSetup')).toBe(card)
    expect(findTestCardById('tok_authenticationRequiredOnSetup')).toBe(card)
    expect(findTestCardByKey(card?.key ?? '')).toBe(card)
    expect(findTestCardById('tok_chargeDeclined')).toBe(findTestCardById('pm_card_visa_chargeDeclined'))
  })

  it('knows no other number, however valid', () => {
    expect(isCardNumber('4111111111111111')).toBe(true)
    expect(findTestCardByNumber('4111111111111111')).toBeUndefined()
    expect(isCardNumber('4242424242424241')).toBe(false)
    expect(findTestCardById('pm_1234')).toBeUndefined()
  })
})
