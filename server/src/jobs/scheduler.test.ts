import fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import { PATIENCE } from '../../test/patience.ts'
import { testDatabase } from '../../test/database.ts'
import { systemClock } from '../lib/clock.ts'
import { isDue } from './cron.ts'
import { startScheduler, type Job } from './scheduler.ts'

const database = testDatabase()
const failed: string[] = []

function start(jobs: readonly Job[]) {
  return startScheduler({ db: database.db, clock: systemClock, jobs, onFailure: ({ name }) => void failed.push(name) })
}

function later(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => undefined
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  return { promise, resolve }
}

describe('jobs', () => {
  it('run at the start, one failing without harm to the next', async () => {
    const ran: string[] = []
    const scheduler = start([
      { name: 'broken', cron: '* * * * *', run: () => Promise.reject(new Error('no')) },
      { name: 'fine', cron: '* * * * *', run: async () => void ran.push('fine') },
    ])
    await vi.waitFor(() => expect(ran).toEqual(['fine']), PATIENCE)
    await scheduler.stop()
    expect(failed).toEqual(['broken'])
  })

  it('that take long hold up no other, and do not gather meanwhile', async () => {
    let now = new Date('2026-03-01T12:00:59.990Z')
    const gate = later()
    const runs = { long: 0, other: 0 }
    const jobs: Job[] = [
      { name: 'takes long', cron: '* * * * *', run: () => ((runs.long += 1), gate.promise) },
      { name: 'other', cron: '* * * * *', run: async () => void (runs.other += 1) },
    ]
    // Each look at the clock is a minute later, so that minutes pass as fast as jobs run.
    const clock = { now: () => (now = new Date(now.getTime() + 60_000)) }
    const scheduler = startScheduler({ db: database.db, clock, jobs, onFailure: () => undefined })
    await vi.waitFor(() => expect(runs.other).toBeGreaterThan(3), PATIENCE)
    expect(runs.long).toBe(1)
    const stopping = scheduler.stop()
    gate.resolve()
    await stopping
    expect(runs.long).toBe(1)
  })

  it('run on one server at a time, and their end is waited for', async () => {
    const [began, gate] = [later(), later()]
    let runs = 0
    const long: Job = {
      name: 'long',
      cron: '* * * * *',
      run: async () => {
        runs += 1
        began.resolve()
        await gate.promise
      },
    }
    const first = start([long])
    await began.promise
    const seen = later()
    const second = start([long, { name: 'after', cron: '* * * * *', run: async () => seen.resolve() }])
    await seen.promise
    expect(runs).toBe(1)
    let stopped = false
    const stopping = first.stop().then(() => {
      stopped = true
    })
    await second.stop()
    expect(stopped).toBe(false)
    gate.resolve()
    await stopping
  })
})

it('is due once an hour, or once a day, in exactly its minute', () => {
  const minute = fc.integer({ min: 0, max: 59 })
  const hour = fc.integer({ min: 0, max: 23 })
  fc.assert(
    fc.property(minute, hour, minute, hour, (cronMinute, cronHour, nowMinute, nowHour) => {
      const now = new Date(Date.UTC(2026, 2, 1, nowHour, nowMinute, 30))
      expect(isDue(`${cronMinute} * * * *`, now)).toBe(cronMinute === nowMinute)
      expect(isDue(`${cronMinute} ${cronHour} * * *`, now)).toBe(cronMinute === nowMinute && cronHour === nowHour)
      expect(isDue('* * * * *', now)).toBe(true)
    }),
  )
  expect(['11:00', '11:05', '11:07'].map((time) => isDue('*/5 * * * *', new Date(`2026-03-04T${time}:00Z`)))).toEqual([
    true,
    true,
    false,
  ])
  expect(() => isDue('1-5 * * * *', new Date(0))).toThrow(/a minute and an hour/)
})

it('refuses a job whose cron cannot be read at the start, not in a timer', () => {
  const jobs = [{ name: 'wrong', cron: '1-5 * * * *', run: () => Promise.resolve() }]
  expect(() => start(jobs)).toThrow(/a minute and an hour/)
})
