import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { isStorable } from '../lib/storable.ts'

/** A page of a list: after a cursor, or, as the older routes have it, from an offset. */
export type PageQuery = {
  readonly limit: number
  readonly offset: number
  readonly cursor: string | null
  /** A key of the list's sorts, with `-` in front of it for the greatest first. */
  readonly sort: string
}

export type ListPage<Row> = {
  readonly rows: readonly Row[]
  readonly nextCursor: string | null
}

/** What a list can be ordered by: an expression, and its type; the id follows, so that no two rows are equal. */
export type Sorts = Readonly<Record<string, { readonly by: string; readonly type: 'timestamptz' | 'text' }>>

/** A `where` that grows: each condition with its values as parameters. */
export type Filter = { readonly conditions: readonly string[]; readonly parameters: readonly unknown[] }

export const NO_FILTER: Filter = { conditions: [], parameters: [] }

/** Adds a condition; `?` stands for the values in their order. */
export function filterBy(filter: Filter, condition: string, ...values: readonly unknown[]): Filter {
  let next = filter.parameters.length
  const numbered = condition.replaceAll('?', () => `$${(next += 1)}`)
  return { conditions: [...filter.conditions, numbered], parameters: [...filter.parameters, ...values] }
}

/** The same for a value that may not be asked for. */
export function filterIf<Value>(filter: Filter, condition: string, value: Value | null): Filter {
  return value === null ? filter : filterBy(filter, condition, value)
}

export function filterByTime(
  filter: Filter,
  column: string,
  range: { readonly from: Instant | null; readonly to: Instant | null },
) {
  return filterIf(filterIf(filter, `${column} >= ?`, range.from), `${column} < ?`, range.to)
}

/** What finds few rows or many: a statement that answers ids, and a condition on each row. */
export type Narrowing = { readonly ids: string; readonly each: string; readonly values: readonly unknown[] }

/** Up to this many rows are looked up by their ids and sorted (about 10 ms); of more, a page's worth is soon met in the list's order. */
const FEW = 5_000

/**
 * Adds a condition that other tables answer, by the way that costs less: the planner cannot know how rare what is asked for is, and
 * took 150 to 500 ms for a page of 100,000 organizations where this takes 5 to 20. Answers how many it finds too, 5,001 for more
 * than 5,000.
 */
export async function narrow(
  db: Queryable,
  filter: Filter,
  id: string,
  { ids, each, values }: Narrowing,
): Promise<{ readonly filter: Filter; readonly found: number }> {
  const probe = filterBy(NO_FILTER, ids, ...values)
  const { rows } = await db.query<{ count: number }>(
    `select count(*)::int as count from (select from (${probe.conditions[0]!}) all_of_them limit ${FEW + 1}) found`,
    [...probe.parameters],
  )
  const found = rows[0]!.count
  const narrowed = found <= FEW ? filterBy(filter, `${id} = any(array(${ids}))`, ...values) : filterBy(filter, each, ...values)
  return { filter: narrowed, found }
}

export type List = {
  /** The table and the name by which conditions, sorts and columns call its rows. */
  readonly from: string
  readonly alias: string
  /** What is joined to the rows of a page, for its columns. */
  readonly joins?: string
  readonly id: string
  readonly columns: string
  readonly sorts: Sorts
}

/**
 * Reads a page. With its cursor a page costs the same wherever it is in the list, and neither loses nor repeats rows when others are
 * added meanwhile.
 * @throws DomainError `invalid_request` for a cursor that no page of this list and order answered
 */
export async function readPage<Row extends object>(
  db: Queryable,
  list: List,
  filter: Filter,
  { limit, offset, cursor, sort }: PageQuery,
): Promise<ListPage<Row>> {
  const descending = sort.startsWith('-')
  const { by, type } = list.sorts[sort.replace(/^-/, '')]!
  const after = cursor === null ? null : readCursor(cursor, { sort, type })
  const paged =
    after === null
      ? filter
      : filterBy(filter, `(${by}, ${list.id}) ${descending ? '<' : '>'} (?::${type}, ?)`, after.key, after.id)
  const direction = descending ? 'desc' : 'asc'
  const order = `order by ${by} ${direction}, ${list.id} ${direction}`
  const limited = filterBy(paged, 'limit ? offset ?', limit + 1, offset)
  const { rows } = await db.query<Row & { readonly cursorKey: string; readonly cursorId: string }>(
    `select ${list.columns}, (${by})::text as "cursorKey", ${list.id} as "cursorId" from (
       select ${list.alias}.* from ${list.from} ${list.alias} ${whereOf(paged)} ${order} ${limited.conditions.at(-1)!}
     ) ${list.alias} ${list.joins ?? ''} ${order}`,
    [...limited.parameters],
  )
  const shown = rows.slice(0, limit)
  const last = rows.length > limit ? shown.at(-1) : undefined
  return { rows: shown, nextCursor: last === undefined ? null : writeCursor(sort, last.cursorKey, last.cursorId) }
}

/** Counting stops here: who looks through a list does not need to know whether it has 20,000 or 30,000 rows. */
const COUNTED_AT_MOST = 250

/** How many rows there are; 250 where there are more. */
export async function countUpTo(db: Queryable, list: List, filter: Filter): Promise<{ total: number; capped: boolean }> {
  const { rows } = await db.query<{ count: number }>(
    `select count(*)::int as count from (select from ${list.from} ${list.alias} ${whereOf(filter)} limit ${COUNTED_AT_MOST + 1}) found`,
    [...filter.parameters],
  )
  return countOf(rows[0]!.count, COUNTED_AT_MOST)
}

/** What a count that stops behind `most` says: the number, or that there are more. Pure. */
export function countOf(count: number, most = FEW): { total: number; capped: boolean } {
  return { total: Math.min(count, most), capped: count > most }
}

function whereOf({ conditions }: Filter): string {
  return conditions.length === 0 ? '' : `where ${conditions.map((condition) => `(${condition})`).join(' and ')}`
}

function writeCursor(sort: string, key: string, id: string): string {
  return Buffer.from(JSON.stringify([sort, key, id])).toString('base64url')
}

function readCursor(
  cursor: string,
  { sort, type }: { readonly sort: string; readonly type: 'timestamptz' | 'text' },
): { key: string; id: string } {
  const parts = parseJson(Buffer.from(cursor, 'base64url').toString('utf8'))
  if (Array.isArray(parts) && parts.length === 3 && parts.every(isText) && parts[0] === sort) {
    const [, key, id] = parts as [string, string, string]
    if (type === 'text' || isMoment(key)) return { key, id }
  }
  throw new DomainError('invalid_request', 'cursor is not one that this list, in this order, answered.', { field: 'cursor' })
}

const isText = (part: unknown): boolean => typeof part === 'string' && isStorable(part)

/** Whether a text is a moment as PostgreSQL writes it in UTC, so that it reads it too. Pure. */
export function isMoment(text: string): boolean {
  const [, day, time] = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.\d{1,6})?\+00$/.exec(text) ?? []
  const at = new Date(`${day}T${time}Z`)
  return !Number.isNaN(at.getTime()) && at.toISOString().startsWith(`${day}T${time}`)
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

/** The pattern that finds what begins with a text. */
export function prefixPattern(text: string): string {
  return `${text.replace(/[\\%_]/g, (special) => `\\${special}`)}%`
}
