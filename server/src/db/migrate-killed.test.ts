import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { PATIENCE } from '../../test/patience.ts'
import { testDatabase } from '../../test/database.ts'
import { runCli, spawnScript, variablesFor } from '../../test/program.ts'
import { readMigrations, readSchemaState } from './migrate.ts'

vi.setConfig({ testTimeout: 60_000 })
const database = testDatabase()
/** Held while a migration is to stand still in its middle. */
const HELD = 4_711

test('a migration whose process is killed in its middle leaves nothing, and the next start makes it whole', async () => {
  const { db, url } = database
  const names = readMigrations().map(({ name }) => name)
  await db.query('drop schema public cascade; create schema public')
  // As soon as the first of the tables is there, with most of the migrations still ahead.
  await db.query(
    `create schema aside;
     create function aside.stand_still() returns event_trigger language plpgsql as $$
       begin if to_regclass('public.accounts') is not null then perform pg_advisory_xact_lock_shared(${HELD}); end if; end $$;
     create event trigger stand_still on ddl_command_end when tag in ('CREATE TABLE') execute function aside.stand_still()`,
  )
  const env = variablesFor(join(tmpdir(), 'tollgate-nowhere'), { DATABASE_URL: url })
  const migrating = ['server/src/cli/main.ts', 'migrate']
  const next = await db.session(async (session) => {
    await session.query('select pg_advisory_lock($1)', [HELD])
    const child = spawnScript(migrating, env)
    const ended = once(child, 'exit')
    await vi.waitFor(async () => expect(await waitingFor('advisory')).toBe(1), PATIENCE)
    child.kill('SIGKILL')
    await ended
    // PostgreSQL has not noticed: what was killed still holds all that it locked, and the next one waits for it.
    const started = runCli(['migrate'], env)
    await vi.waitFor(async () => expect(await waitingFor('advisory')).toBe(2), PATIENCE)
    expect((await db.query(`select to_regclass('accounts') as accounts`)).rows).toEqual([{ accounts: null }])
    await session.query('select pg_advisory_unlock($1)', [HELD])
    return { started }
  })
  const { code, out, err } = await next.started
  expect([code, err]).toEqual([0, ''])
  for (const name of names) expect(out).toContain(name)
  expect(await readSchemaState(db, readMigrations())).toBe('current')
  const { rows } = await db.query<{ name: string }>('select name from schema_migrations order by name')
  expect(rows.map(({ name }) => name)).toEqual(names)
})

async function waitingFor(event: string): Promise<number | null> {
  const { rowCount } = await database.db.query(
    'select from pg_stat_activity where datname = current_database() and wait_event = $1',
    [event],
  )
  return rowCount
}
