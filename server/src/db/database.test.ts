import { describe, expect, it } from 'vitest'
import { testDatabase } from '../../test/database.ts'

const database = testDatabase()

describe('a transaction', () => {
  it('keeps everything or nothing, and passes the error on', async () => {
    const failing = database.db.transaction(async (tx) => {
      await tx.query(`insert into settings values ('a', '1')`)
      throw new Error('no')
    })
    await expect(failing).rejects.toThrow('no')
    await database.db.transaction((tx) => tx.query(`insert into settings values ('b', '2')`))
    expect((await database.db.query('select name from settings')).rows).toEqual([{ name: 'b' }])
  })

  it('survives the loss of its connection: the next one gets another', async () => {
    const lost = database.db.transaction((tx) => tx.query('select pg_terminate_backend(pg_backend_pid())'))
    await expect(lost).rejects.toThrow(expect.objectContaining({ code: 'database_unavailable' }))
    expect((await database.db.query('select 1 as one')).rows).toEqual([{ one: 1 }])
  })
})

it('reads bigint columns as bigint and counts in UTC', async () => {
  const { rows } = await database.db.query(`select 9007199254740993::bigint as big, current_setting('timezone') as zone`)
  expect(rows).toEqual([{ big: 9_007_199_254_740_993n, zone: 'UTC' }])
})
