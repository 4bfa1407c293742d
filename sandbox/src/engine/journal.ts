import { DatabaseSync, type StatementSync } from 'node:sqlite'
import type { StoredName, StoredObject } from '../model/stored.ts'
import type { Write } from './store.ts'

/** Where committed writes are kept. */
export interface Journal {
  /** Everything kept, in order of insertion. */
  load(): Array<{ name: StoredName; object: StoredObject }>
  /** Keeps a transaction's writes; all or none of them survive a crash. */
  append(writes: readonly Write[]): void
  /** How many times the file was opened: tells runs of one seed apart. */
  readonly generation: number
  close(): void
}

/**
 * Keeps the objects in a SQLite file: one row an object, one SQLite transaction a sandbox transaction. Write-ahead log with `synchronous =
 * normal`: what was answered survives the end of the process (SIGKILL); a power cut may lose the last moments, never tear them.
 */
export function openJournal(file: string): Journal {
  const database = openExclusively(file)
  database.exec(`
    pragma journal_mode = wal;
    pragma synchronous = normal;
    create table if not exists objects (
      position integer primary key autoincrement,
      name text not null,
      id text not null,
      json text not null,
      unique (name, id)
    ) strict;
    create table if not exists openings (id integer primary key autoincrement) strict;
    insert into openings default values`)
  const { generation } = database.prepare('select count(*) as generation from openings').get() as { generation: number }
  const upsert = database.prepare(
    'insert into objects (name, id, json) values (?, ?, ?) on conflict (name, id) do update set json = excluded.json',
  )
  const remove = database.prepare('delete from objects where name = ? and id = ?')
  return {
    generation,
    load: () => loadAll(database),
    append: (writes) => append(database, upsert, remove, writes),
    close: () => database.close(),
  }
}

/** The file is another sandbox's, or another program's. */
export class DataFileError extends Error {
  constructor(file: string) {
    super(`The data file ${file} is in use by another sandbox, or is no SQLite file.`)
    this.name = 'DataFileError'
  }
}

/** Two sandboxes on one file would each overwrite what the other keeps. */
function openExclusively(file: string): DatabaseSync {
  const database = new DatabaseSync(file)
  try {
    database.exec('pragma locking_mode = exclusive; begin exclusive; commit')
    return database
  } catch {
    database.close()
    throw new DataFileError(file)
  }
}

function loadAll(database: DatabaseSync): Array<{ name: StoredName; object: StoredObject }> {
  const rows = database.prepare('select name, json from objects order by position').all() as Array<{
    name: StoredName
    json: string
  }>
  return rows.map(({ name, json }) => ({ name, object: JSON.parse(json) as StoredObject }))
}

function append(database: DatabaseSync, upsert: StatementSync, remove: StatementSync, writes: readonly Write[]): void {
  const last = new Map(writes.map((write) => [`${write.name}\n${write.id}`, write]))
  database.exec('begin immediate')
  try {
    for (const { name, id, after } of last.values()) {
      if (after === undefined) remove.run(name, id)
      else upsert.run(name, id, JSON.stringify(after))
    }
    database.exec('commit')
  } catch (error) {
    database.exec('rollback')
    throw error
  }
}
