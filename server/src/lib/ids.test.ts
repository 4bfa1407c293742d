import { expect, it } from 'vitest'
import { newUsageEventId, recordedAtOf } from './ids.ts'

it('names the moment of an event in its id, and nothing else twice', () => {
  const moments = [
    new Date('2026-03-10T12:00:00.123Z'),
    new Date('1999-12-31T23:59:59.999Z'),
    new Date('2026-03-10T12:00:00.123Z'),
  ]
  const ids = moments.map((moment) => newUsageEventId(moment))
  expect(ids.map(recordedAtOf)).toEqual(moments)
  expect(new Set(ids).size).toBe(3)
})

it('reads no moment from what is no id of an event', () => {
  expect(['', 'res_1', '01a1fc84-14fa-4f0d-a4ae-c7c325180618', `${newUsageEventId(new Date(0))}0`].map(recordedAtOf)).toEqual([
    null,
    null,
    null,
    null,
  ])
})

it('makes ids that ascend within a moment, and are ids to PostgreSQL', () => {
  const at = new Date('2026-03-10T12:00:01Z')
  const ids = Array.from({ length: 5_000 }, () => newUsageEventId(at))
  expect(ids.slice(0, 4_096)).toEqual(ids.slice(0, 4_096).toSorted())
  expect(new Set(ids).size).toBe(5_000)
  expect(ids.every((id) => /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(id))).toBe(true)
})
