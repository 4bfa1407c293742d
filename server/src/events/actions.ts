import type { Queryable } from '../db/database.ts'
import { derivedId } from '../lib/ids.ts'
import { insertStatement } from './store.ts'
import type { NewEvent } from './types.ts'

/**
 * Stores what happened, in the transaction in which it happened: both are there or neither. An event whose key its organization has
 * already is left as it is, so telling it again is safe. One statement for any number of events.
 * Answers how many were new.
 */
export async function publishEvents(tx: Queryable, events: readonly NewEvent[]): Promise<number> {
  if (events.length === 0) return 0
  const { text, values } = insertEventsStatement(events)
  return (await tx.query(text, values)).rowCount ?? 0
}

/** @see publishEvents */
export function publishEvent(tx: Queryable, event: NewEvent): Promise<number> {
  return publishEvents(tx, [event])
}

/** The same as a statement, for who sends several in one packet. */
export function insertEventsStatement(events: readonly NewEvent[]): { readonly text: string; readonly values: unknown[] } {
  const rows = events.map((event) => ({ ...event, id: eventIdOf(event) }))
  // In one order everywhere: two transactions that tell the same things wait for each other, and do not lock each other out.
  return insertStatement(rows.sort((a, b) => (a.id < b.id ? -1 : 1)))
}

/** The id under which the world sees an event, unique over all organizations. */
export function eventIdOf({ organizationId, key }: { readonly organizationId: string; readonly key: string }): string {
  return derivedId('ev', organizationId, key)
}
