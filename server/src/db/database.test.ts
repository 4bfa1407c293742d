import { describe, expect, it } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { isConnectionError, openPool } from './database.ts'

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

describe('a transaction in packets', () => {
  const insert = `insert into settings values ($1, '1')`
  const names = async () =>
    (await database.db.query<{ name: string }>(`select name from settings where name like 'packet%' order by name`)).rows.map(
      ({ name }) => name,
    )

  it('runs what is asked for together, reads as a transaction does, and commits', async () => {
    const read = await database.db.session((session) =>
      session.packets(async (tx) => {
        await Promise.all([tx.query(insert, ['packet_1']), tx.query(insert, ['packet_2'])])
        const { rows } = await tx.query('select 9007199254740993::bigint as big, now() > $1 as later', [new Date(0)])
        return rows
      }),
    )
    expect(read).toEqual([{ big: 9_007_199_254_740_993n, later: true }])
    expect(await names()).toEqual(['packet_1', 'packet_2'])
  })

  it('gets along with what was prepared on the same connection by a name', async () => {
    const named = { name: 'one', text: 'select 1 as one' }
    const read = await database.db.session(async (session) => {
      await session.query(named)
      return session.packets(async (tx) => (await tx.query(named)).rows)
    })
    expect(read).toEqual([{ one: 1 }])
  })

  it('keeps nothing when a statement fails, and nothing of what goes on beside it is done outside of it', async () => {
    let beside: Promise<unknown> | null = null
    const failing = database.db.session((session) =>
      session.packets(async (tx) => {
        const goesOn = async (): Promise<void> => {
          await tx.query('select 1').catch(() => undefined)
          // By then the transaction has been rolled back.
          await failed
          await tx.query(insert, ['packet_after'])
        }
        const failed = tx.query('select 1 / 0').catch(() => new Promise((resolve) => setImmediate(resolve)))
        beside = goesOn()
        beside.catch(() => undefined)
        await Promise.all([tx.query(insert, ['packet_3']), tx.query('select 1 / 0')])
      }),
    )
    await expect(failing).rejects.toThrow('division by zero')
    await expect(beside).rejects.toThrow('over')
    expect(await names()).toEqual(['packet_1', 'packet_2'])
  })

  it('keeps nothing when the work itself fails', async () => {
    const failing = database.db.session((session) =>
      session.packets(async (tx) => {
        await tx.query(insert, ['packet_4'])
        throw new Error('no')
      }),
    )
    await expect(failing).rejects.toThrow('no')
    expect(await names()).toEqual(['packet_1', 'packet_2'])
  })
})

it('reads a domain as what it is made of, and refuses a list of one, which would arrive as one text', async () => {
  const { rows } = await database.db.query(`select 'plan'::grant_kind as kind`)
  expect(rows).toEqual([{ kind: 'plan' }])
  await expect(database.db.query(`select array['plan'::grant_kind] as kinds`)).rejects.toThrow('cast what it is made of')
  expect((await database.db.query(`select array['plan'::grant_kind]::text[] as kinds`)).rows).toEqual([{ kinds: ['plan'] }])
})

it('reads bigint columns as bigint and counts in UTC', async () => {
  const { rows } = await database.db.query(`select 9007199254740993::bigint as big, current_setting('timezone') as zone`)
  expect(rows).toEqual([{ big: 9_007_199_254_740_993n, zone: 'UTC' }])
})

it.each(['postgres://tollgate@%2Fnowhere/tollgate', 'postgres://tollgate@127.0.0.1:1/tollgate'])(
  'knows a server that is away from a statement that is wrong, also where its socket is gone: %s',
  async (connectionString) => {
    const pool = openPool({ connectionString })
    await expect(pool.connect()).rejects.toSatisfy(isConnectionError)
    await pool.end()
  },
)
