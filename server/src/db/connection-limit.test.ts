import { expect, test } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { findConnectionGap } from './connection-limit.ts'

const database = testDatabase()

test.each([
  [40, 20, /^enough$/],
  [31, 20, /takes 31 connections of this login, and each server opens up to 32: set TOLLGATE_DATABASE_CONNECTIONS to 19 at most/],
  [16, 5, /at least 17 are needed/],
])('where %i connections are taken, a pool of %i is told of: %s', async (limit, poolSize, sentence) => {
  await database.db.query(`alter database ${new URL(database.url).pathname.slice(1)} connection limit ${limit}`)
  expect((await findConnectionGap(database.db, poolSize)) ?? 'enough').toMatch(sentence)
})

test('what the server takes of everybody is told of too', async () => {
  expect(await findConnectionGap(database.db, 10_000)).toMatch(/each server opens up to 10012/)
})
