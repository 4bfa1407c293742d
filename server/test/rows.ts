import type { Db } from '../src/db/database.ts'
import { writeAside } from './under-lock.ts'

export type Row = Readonly<Record<string, unknown>>

/** Writes a row as it is needed here, whatever else it would need. */
export function keepRow(db: Db, table: string, row: Row): Promise<unknown> {
  return writeAside(db, (tx) => tx.query(insertStatement(table, Object.keys(row)), Object.values(row)))
}

export function insertStatement(table: string, names: readonly string[]): string {
  return `insert into ${table} (${names.join(', ')}) values (${names.map((_, index) => `$${index + 1}`).join(', ')})`
}
