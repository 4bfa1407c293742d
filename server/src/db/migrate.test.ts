import { describe, expect, it } from 'vitest'
import { openDatabase } from './database.ts'
import { migrate, readMigrations, type Migration } from './migrate.ts'
import { testDatabase } from '../../test/database.ts'

const database = testDatabase()
const real = readMigrations()

function extra(name: string, sql: string): Migration {
  return { name, sql, checksum: name + sql }
}

describe('migrate', () => {
  it('applies nothing twice', async () => {
    expect(await migrate(database.db)).toEqual([])
  })

  it('applies each migration once when several servers start together', async () => {
    const migrations = [...real, extra('9001_together.sql', 'create table together (id int)')]
    const servers = Array.from({ length: 4 }, () => openDatabase({ connectionString: database.url, poolSize: 1 }))
    const applied = await Promise.all(servers.map((server) => migrate(server, migrations)))
    await Promise.all(servers.map((server) => server.close()))
    expect(applied.flat()).toEqual(['9001_together.sql'])
  })

  it('leaves nothing behind of a migration that fails', async () => {
    const known = [...real, extra('9001_together.sql', 'create table together (id int)')]
    const broken = [...known, extra('9002_half.sql', 'create table half (id int)'), extra('9003_broken.sql', 'create nonsense')]
    await expect(migrate(database.db, broken)).rejects.toThrow(/syntax error/)
    const found = await database.db.query(`select to_regclass('half') as half`)
    expect(found.rows).toEqual([{ half: null }])
  })

  it('refuses a changed migration, and a database that is newer than the program', async () => {
    const changed = [...real, extra('9001_together.sql', 'create table together (id bigint)')]
    await expect(migrate(database.db, changed)).rejects.toThrow(/changed after it had been applied/)
    await expect(migrate(database.db, real)).rejects.toThrow(/it is newer/)
  })
})
