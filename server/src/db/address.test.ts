import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { startPooler, type Pooler } from '../../test/pooler.ts'
import { createLog } from '../http/log.ts'
import { prepareDatabase } from '../prepare-database.ts'
import { checkAddress } from './address.ts'
import { openDatabase } from './database.ts'
import { migrate } from './migrate.ts'

const database = testDatabase()
let pooler: Pooler

beforeAll(async () => {
  await database.db.query(`alter database ${new URL(database.url).pathname.slice(1)} set lock_timeout = '7s'`)
  pooler = await startPooler(database.url)
})
afterAll(() => pooler.stop())

const log = createLog({ level: 'silent', secrets: [] })

test('a pooler that lends its connections by the transaction is refused before anything is done, in a sentence that says what to use', async () => {
  const options = { databaseUrl: pooler.url } as Parameters<typeof prepareDatabase>[0]
  await expect(prepareDatabase(options, log)).rejects.toMatchObject({
    name: 'MigrationError',
    message: expect.stringMatching(/^DATABASE_URL leads to a pooler .* Use the address of PostgreSQL itself/) as unknown,
  })
})

test('what it was tried with is not left to the clients of such a pooler', async () => {
  await expect(checkAddress(pooler.url)).rejects.toThrow('pooler')
  const other = new pg.Client({ connectionString: pooler.url })
  await other.connect()
  const { rows } = await other.query(
    `select current_setting('tollgate.mark', true) as mark, current_setting('lock_timeout') as patience`,
  )
  await other.end()
  expect(rows).toEqual([{ mark: '', patience: '7s' }])
})

test('PostgreSQL itself is taken, and one that is away is away', async () => {
  await checkAddress(database.url)
  await expect(checkAddress('postgres://nobody@127.0.0.1:9/none')).rejects.toMatchObject({ code: 'database_unavailable' })
})

test.each([
  ['a login that is not there', { username: 'nobody_of_this_name' }],
  ['a database that is not there', { pathname: '/none_of_this_name' }],
])('%s is refused at once, with what PostgreSQL says: it does not come by itself', async (_what, changed) => {
  const url = Object.assign(new URL(database.url), changed)
  const options = { databaseUrl: url.href } as Parameters<typeof prepareDatabase>[0]
  await expect(prepareDatabase(options, log)).rejects.toMatchObject({
    name: 'MigrationError',
    message: expect.stringMatching(/^PostgreSQL refuses what DATABASE_URL names: .*of_this_name/) as unknown,
  })
})

test.each([
  ['in another encoding than UTF-8', `encoding 'LATIN1' locale 'C' template template0`, '', /encoded in LATIN1/],
  ['in which the login may make nothing', '', '', /"grant create on schema public to \w+;"/],
  ['whose search path leads nowhere', '', '-csearch_path=nowhere', /names no schema/],
])('a database %s is refused in a sentence', async (_what, making, setting, sentence) => {
  const name = `odd_${randomUUID().replaceAll('-', '')}`
  await database.db.query(`create role ${name} login password 'of-this-test'`)
  await database.db.query(`create database ${name} ${making}`)
  const url = new URL(database.url)
  Object.assign(url, { pathname: `/${name}`, username: name, password: 'of-this-test' })
  if (setting.startsWith('-c')) url.searchParams.set('options', setting)
  const db = openDatabase({ connectionString: url.href, poolSize: 1 })
  await expect(migrate(db)).rejects.toMatchObject({ name: 'MigrationError', message: expect.stringMatching(sentence) as unknown })
  await db.close()
  await database.db.query(`drop database ${name} with (force)`)
  await database.db.query(`drop role ${name}`)
})
