import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { DAY_MS } from '../lib/period.ts'
import { cardExpiresAt, cardNotices, currentStep, dunningSteps, nextLook, trialNoticeAt } from './rules.ts'

const failedAt = new Date('2026-03-10T08:00:00Z')
const days = (count: number): Date => new Date(failedAt.getTime() + count * DAY_MS)
const stepsOf = (graceDays: number, reminderDays: readonly number[]): string[] =>
  dunningSteps({ failedAt, suspendsAt: days(graceDays) }, reminderDays).map(
    ({ step, at }) => `${step} ${(at.getTime() - failedAt.getTime()) / DAY_MS}`,
  )

describe('KF-13 dunning', () => {
  it('tells at the failure, a day after it, a day before use stops, and when it does', () => {
    expect(stepsOf(3, [1])).toEqual(['failed 0', 'reminder 1', 'last_warning 2', 'suspended 3'])
  })

  it('follows the days that are set, as far as there is grace', () => {
    expect(stepsOf(14, [7, 3, 3])).toEqual(['failed 0', 'reminder 3', 'reminder 7', 'last_warning 13', 'suspended 14'])
    expect(stepsOf(3, [0, 2, 5])).toEqual(['failed 0', 'last_warning 2', 'suspended 3'])
    expect(stepsOf(1, [1])).toEqual(['failed 0', 'suspended 1'])
    expect(stepsOf(0, [1])).toEqual(['failed 0', 'suspended 0'])
  })

  it('has one step that stands at any time, and looks again at the next one', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 60 }),
        fc.array(fc.integer({ min: 0, max: 60 })),
        fc.double({ min: 0, max: 70, noNaN: true }),
        (graceDays, reminderDays, passed) => {
          const steps = dunningSteps({ failedAt, suspendsAt: days(graceDays) }, reminderDays)
          const now = days(passed)
          const current = currentStep(steps, now)
          const next = nextLook(
            steps.map(({ at }) => at),
            now,
          )
          expect(current!.at <= now).toBe(true)
          expect(next === null || next > now).toBe(true)
          expect(steps.filter(({ at }) => at > current!.at && at < (next ?? now))).toEqual([])
          expect(current!.step === 'suspended').toBe(passed >= graceDays)
        },
      ),
    )
  })
})

it('EM-6 a trial’s end is announced three days before', () => {
  expect(trialNoticeAt(new Date('2026-03-15T08:00:00Z'))).toEqual(new Date('2026-03-12T08:00:00Z'))
})

it('a card is good until the end of its month, and its owner is told 30 and 7 days before', () => {
  const expiresAt = cardExpiresAt({ month: 12, year: 2026 })
  expect(expiresAt).toEqual(new Date('2027-01-01T00:00:00Z'))
  expect(cardNotices(expiresAt)).toEqual([
    { step: 30, at: new Date('2026-12-02T00:00:00Z') },
    { step: 7, at: new Date('2026-12-25T00:00:00Z') },
  ])
})

it('nothing stands before its time', () => {
  expect(currentStep(cardNotices(cardExpiresAt({ month: 12, year: 2026 })), new Date('2026-12-01T00:00:00Z'))).toBeNull()
})
