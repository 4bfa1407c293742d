import { expect, it } from 'vitest'
import { creditHeaders, statusOfRefusal } from './quota.ts'
import type { BalanceAnswer } from './usage.ts'

const balance: BalanceAnswer = {
  balance: 'credits',
  unit: 'credit',
  plan: 'free',
  amount: 100,
  used: 90,
  remaining: 10,
  overage: 0,
  reserved: 0,
  period_start: null,
  period_end: null,
}

it('warns when less than a tenth is left, not at a tenth (EM-5)', () => {
  expect(creditHeaders(balance)).toEqual({ 'X-Credits-Used': '90', 'X-Credits-Remaining': '10', 'X-Credits-Total': '100' })
  expect(creditHeaders({ ...balance, used: 90.1, remaining: 9.9 })).toHaveProperty(
    'X-Quota-Warning',
    '9.9 of 100 left in this period',
  )
})

it('counts what is held as used, exactly', () => {
  expect(creditHeaders({ ...balance, used: 0.1, reserved: 0.2, remaining: 99.7 })).toMatchObject({
    'X-Credits-Used': '0.3',
    'X-Credits-Remaining': '99.7',
  })
})

it('never warns where there is no end', () => {
  expect(creditHeaders({ ...balance, amount: null, remaining: null })).toEqual({
    'X-Credits-Used': '90',
    'X-Credits-Remaining': 'unlimited',
    'X-Credits-Total': 'unlimited',
  })
})

it('answers 429 to a used-up quota, 403 to a suspension, and the host’s own choice where it has one', () => {
  expect(statusOfRefusal('quota_exceeded')).toBe(429)
  expect(statusOfRefusal('rate_limited')).toBe(429)
  expect(statusOfRefusal('spend_limit_reached')).toBe(429)
  expect(statusOfRefusal('suspended')).toBe(403)
  expect(statusOfRefusal('quota_exceeded', { quota_exceeded: 403 })).toBe(403)
  expect(statusOfRefusal('suspended', { suspended: 402 })).toBe(402)
})
