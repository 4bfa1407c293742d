import { expect, test } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { openUsageConnections } from '../metering/write/pipeline.ts'
import { openPool } from './database.ts'
import { SYSTEM_ROLE, TENANT_ROLE } from './row-security.ts'

const database = testDatabase()

/** What a server, a database, a login or an address may set otherwise, as each of them does somewhere. */
const ELSEWHERE = {
  TimeZone: 'Asia/Kathmandu',
  DateStyle: 'German, DMY',
  IntervalStyle: 'sql_standard',
  bytea_output: 'escape',
  extra_float_digits: '-10',
  standard_conforming_strings: 'off',
  array_nulls: 'off',
  row_security: 'off',
  default_transaction_isolation: 'serializable',
  synchronous_commit: 'off',
  statement_timeout: '50000',
  lock_timeout: '50000',
  idle_session_timeout: '60000',
  idle_in_transaction_session_timeout: '1000',
}
const SETTLED = {
  TimeZone: 'UTC',
  DateStyle: 'ISO, MDY',
  IntervalStyle: 'postgres',
  bytea_output: 'hex',
  extra_float_digits: '1',
  standard_conforming_strings: 'on',
  array_nulls: 'on',
  row_security: 'on',
  default_transaction_isolation: 'read committed',
  synchronous_commit: 'on',
  lock_timeout: '0',
  idle_session_timeout: '0',
}
const READ = `select name, current_setting(name) as setting from unnest($1::text[]) as name`

type Read = { readonly rows: readonly { readonly name: string; readonly setting: string }[] }
const settingsIn = ({ rows }: Read) => Object.fromEntries(rows.map(({ name, setting }) => [name, setting]))

/** The address, with settings of its own in it: they take the place of all that is told with the connection. */
function addressWith(settings: Readonly<Record<string, string>>): string {
  const url = new URL(database.url)
  const told = Object.entries(settings).map(([name, value]) => `-c ${name}=${value.replaceAll(' ', String.raw`\ `)}`)
  url.searchParams.set('options', told.join(' '))
  return url.href
}

test('a session is what the server counts on, whatever database and address set', async () => {
  const name = new URL(database.url).pathname.slice(1)
  for (const [setting, value] of Object.entries(ELSEWHERE)) {
    await database.db.query(`alter database ${name} set ${setting} = '${value}'`)
  }
  for (const connectionString of [database.url, addressWith(ELSEWHERE)]) {
    const pool = openPool({ connectionString, role: TENANT_ROLE, silentMs: 100_000 })
    const wanted = {
      ...SETTLED,
      role: TENANT_ROLE,
      statement_timeout: '70s',
      idle_in_transaction_session_timeout: '2min',
      search_path: '"$user", public',
    }
    expect(settingsIn(await pool.query(READ, [Object.keys(wanted)]))).toEqual(wanted)
    await pool.end()
    const usage = openUsageConnections({ connectionString, size: 1, role: SYSTEM_ROLE })
    const ofUsage = {
      ...SETTLED,
      role: SYSTEM_ROLE,
      statement_timeout: '10s',
      idle_in_transaction_session_timeout: '10s',
      enable_seqscan: 'off',
      jit: 'off',
    }
    expect(settingsIn(await usage.read((client) => client.query(READ, [Object.keys(ofUsage)])))).toEqual(ofUsage)
    await usage.close()
  }
})

test('where an address says in which schema the tables are, that stands', async () => {
  const pool = openPool({ connectionString: addressWith({ search_path: 'elsewhere' }), role: TENANT_ROLE })
  expect(settingsIn(await pool.query(READ, [['search_path', 'role']]))).toEqual({ search_path: 'elsewhere', role: TENANT_ROLE })
  await pool.end()
})
