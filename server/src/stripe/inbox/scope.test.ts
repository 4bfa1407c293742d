import { expect, test } from 'vitest'
import { readEnvelope } from '../gateway/envelope.ts'
import { scopeOf } from './scope.ts'

const told = (type: string, object: object) =>
  readEnvelope({ id: 'evt_1', type, livemode: false, created: 1_790_000_000, data: { object } })

test.each([
  ['a card', 'ch_1'],
  ['another payment method', 'py_1'],
])('what is told of a refund or a dispute has the charge fetched that it is of: one of %s', (_, charge) => {
  const refund = { object: 'refund', id: 're_1', charge, payment_intent: 'pi_1', customer: 'cus_1' }
  const dispute = { object: 'dispute', id: 'du_1', charge, payment_intent: 'pi_1' }
  expect(scopeOf([told('refund.failed', refund)])).toMatchObject({ charges: true, chargeIds: [charge] })
  expect(scopeOf([told('charge.dispute.closed', dispute)])).toMatchObject({ charges: true, chargeIds: [charge] })
})

test('a refund of a payment that Stripe did not take names no charge that could be fetched', () => {
  const refund = { object: 'refund', id: 're_1', charge: null, payment_intent: null, customer: 'cus_1' }
  expect(scopeOf([told('refund.updated', refund)])).toMatchObject({ charges: true, chargeIds: [] })
})
