import type { Stored, StoredName } from './index.ts'

/** Value(s) under which an index finds an object; null and undefined leave it out. */
export type IndexValue = string | null | undefined | ReadonlyArray<string>

/** How a kind of object is kept: its id prefix and its indexes. */
export interface Layout {
  readonly name: StoredName
  /** `cus` for `cus_…`; empty for kinds whose ids are made otherwise. */
  readonly prefix: string
  readonly indexes: Readonly<Record<string, (object: never) => IndexValue>>
}

/**
 * Declares how a kind of object is kept: `layout('invoice', 'in', { customer: (invoice) => invoice.customer })`. An index function reads
 * only the stored object itself.
 */
export function layout<K extends StoredName>(
  name: K,
  prefix: string,
  indexes: Record<string, (object: Stored<K>) => IndexValue> = {},
): Layout {
  return { name, prefix, indexes }
}
