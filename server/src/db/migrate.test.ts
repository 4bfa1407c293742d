import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { openDatabase } from './database.ts'
import { migrate, readMigrations, readSchemaState, type Migration } from './migrate.ts'

const database = testDatabase()
const real = readMigrations()

function extra(name: string, sql: string): Migration {
  return { name, sql, checksum: name + sql }
}

describe('migrations', () => {
  it('are applied once, whoever asks again', async () => {
    expect(await migrate(database.db)).toEqual([])
    expect(await readSchemaState(database.db, real)).toBe('current')
  })

  it('are applied by one of several servers that start together, while the others wait', async () => {
    const migrations = [...real, extra('9001_together.sql', 'create table together (id int)')]
    expect(await readSchemaState(database.db, migrations)).toBe('behind')
    const servers = Array.from({ length: 4 }, () => openDatabase({ connectionString: database.url, poolSize: 1 }))
    const applied = await Promise.all(servers.map((server) => migrate(server, migrations)))
    await Promise.all(servers.map((server) => server.close()))
    expect(applied.flat()).toEqual(['9001_together.sql'])
  })

  it('leave nothing behind when one fails', async () => {
    const known = [...real, extra('9001_together.sql', 'create table together (id int)')]
    const broken = [...known, extra('9002_half.sql', 'create table half (id int)'), extra('9003_broken.sql', 'create nonsense')]
    await expect(migrate(database.db, broken)).rejects.toThrow(/9003_broken.sql failed and was rolled back: syntax error/)
    const found = await database.db.query(`select to_regclass('half') as half`)
    expect(found.rows).toEqual([{ half: null }])
  })

  it('are refused when one was changed, and when the database is newer than the program', async () => {
    const changed = [...real, extra('9001_together.sql', 'create table together (id bigint)')]
    await expect(migrate(database.db, changed)).rejects.toThrow(/changed after it had been applied/)
    await expect(migrate(database.db, real)).rejects.toThrow(/it is newer/)
    expect(await readSchemaState(database.db, real)).toBe('ahead')
  })
})

describe('the folder of migrations', () => {
  it('is refused with a file out of the row, or one number used twice', () => {
    const folder = mkdtempSync(join(tmpdir(), 'tollgate-migrations-'))
    try {
      writeFileSync(join(folder, '0001_one.sql'), '')
      writeFileSync(join(folder, '0001_other.sql'), '')
      expect(() => readMigrations(folder)).toThrow(/Two migrations have the number 0001: 0001_one.sql and 0001_other.sql/)
      writeFileSync(join(folder, '0001.sql'), '')
      expect(() => readMigrations(folder)).toThrow(/0001.sql in the folder of migrations is not named/)
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
