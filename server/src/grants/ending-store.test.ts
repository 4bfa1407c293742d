import { beforeAll, expect, test } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { writeAside } from '../../test/under-lock.ts'
import { endLevelsOf } from './ending-store.ts'

const { db } = testDatabase()
const [told, before, end] = ['2026-03-01', '2026-03-20', '2026-04-01'].map((day) => new Date(`${day}T00:00:00Z`)) as [
  Date,
  Date,
  Date,
]

type Level = {
  readonly organization?: string
  readonly grant: string
  readonly meter: string
  readonly level: number
  readonly carryAt: Date | null
}

const keep = ({ organization = 'acme', grant, meter, level, carryAt }: Level) =>
  writeAside(db, (tx) =>
    tx.query(
      `insert into meter_readings (organization_id, grant_id, meter, quantity, occurred_at, draws, level, level_at, carry_at)
       values ($1, $2, $3, 0, $4, '[]', $5, $4, $6)`,
      [organization, grant, meter, told, level, carryAt],
    ),
  )

beforeAll(async () => {
  await keep({ grant: 'march', meter: 'seats', level: 7, carryAt: end })
  await keep({ grant: 'march', meter: 'carried', level: 7, carryAt: null })
  await keep({ grant: 'other', meter: 'agents', level: 7, carryAt: end })
  await keep({ organization: 'other', grant: 'march', meter: 'seats', level: 7, carryAt: end })
  await keep({ grant: 'endless', meter: 'seats', level: 1, carryAt: null })
  await keep({ grant: 'endless', meter: 'gone', level: 0, carryAt: null })
})

test('levels are carried when their period ends, which is sooner, or at all; none of other allowances are, nor what was carried or is nothing', async () => {
  const ended = (id: string, wasEndless: boolean) => ({ organizationId: 'acme', id, expiresAt: before, wasEndless })
  await endLevelsOf(db, [ended('march', false), ended('endless', true)])
  const { rows } = await db.query<{ name: string; at: Date | null }>(
    `select organization_id || ' ' || grant_id || ' ' || meter as name, carry_at as at from meter_readings`,
  )
  expect(Object.fromEntries(rows.map(({ name, at }) => [name, at]))).toEqual({
    'acme march seats': before,
    'acme march carried': null,
    'acme other agents': end,
    'other march seats': end,
    'acme endless seats': before,
    'acme endless gone': null,
  })
})
