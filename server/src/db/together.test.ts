import { expect, it } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import type { Queryable } from './database.ts'
import { rowsTogether, together } from './together.ts'

const database = testDatabase()

/** Answers a number by PostgreSQL, and how many were asked with it. */
const asked: number[] = []
const double = together(async (tx: Queryable, numbers: readonly number[]) => {
  asked.push(numbers.length)
  const { rows } = await tx.query<{ double: number }>('select n * 2 as double from unnest($1::integer[]) as n', [numbers])
  return rows.map((row) => row.double)
})

async function twice(tx: Queryable, number: number): Promise<number> {
  return double(tx, await double(tx, number))
}

it('makes one statement of what is asked in one turn of a transaction in packets, step by step', async () => {
  asked.length = 0
  const answers = await database.db.session((session) =>
    session.packets((tx) => Promise.all([1, 2, 3].map((number) => twice(tx, number)))),
  )
  expect(answers).toEqual([4, 8, 12])
  expect(asked).toEqual([3, 3])
})

it('runs each by itself anywhere else, where two of one turn may be of different scopes', async () => {
  asked.length = 0
  expect(await Promise.all([1, 2].map((number) => double(database.db, number)))).toEqual([2, 4])
  expect(await database.db.transaction((tx) => double(tx, 3))).toBe(6)
  expect(asked).toEqual([1, 1, 1])
})

it('keeps transactions apart', async () => {
  asked.length = 0
  const run = (number: number) => database.db.session((session) => session.packets((tx) => double(tx, number)))
  expect(await Promise.all([run(1), run(2)])).toEqual([2, 4])
  expect(asked).toEqual([1, 1])
})

it('fails for all that were asked together', async () => {
  const fail = together(async (tx: Queryable, numbers: readonly number[]) => {
    await tx.query('select 1 / 0')
    return numbers
  })
  const outcomes = await database.db
    .session((session) => session.packets((tx) => Promise.allSettled([fail(tx, 1), fail(tx, 2)])))
    .catch((error: unknown) => error)
  // The transaction is over with it, whatever its work makes of the failures.
  expect(String(outcomes)).toMatch(/division by zero|transaction/)
})

it('gives each organization its own rows, in the order of the statement', async () => {
  const rowsOf = rowsTogether(async (tx: Queryable, ids) => {
    const { rows } = await tx.query<{ organizationId: string; n: number }>(
      `select id as "organizationId", n from unnest($1::text[]) as id, generate_series(1, 2) as n where id <> 'none' order by n desc`,
      [ids],
    )
    return rows
  })
  const found = await database.db.session((session) =>
    session.packets((tx) => Promise.all(['a', 'none', 'b', 'a'].map((id) => rowsOf(tx, id)))),
  )
  const both = (organizationId: string) => [2, 1].map((n) => ({ organizationId, n }))
  expect(found).toEqual([both('a'), [], both('b'), both('a')])
})
