import type { Stored, StoredName } from '../model/stored.ts'
import type { Ctx } from './context.ts'
import { invalidRequest } from './errors.ts'
import { pageLimit } from './lists.ts'

/**
 * Stripe's search query language: `name:"value"`, `-` in front negates, `~` matches a part, `>` `<` `>=` `<=` compare numbers, `AND` or
 * `OR` join clauses (not both in one query), `metadata["key"]:"value"`, `field:null` for what is not set.
 * Source: docs.stripe.com/search#search-query-language.
 */
export interface SearchField {
  /** `token` equals, `string` also matches a part, `numeric` compares. */
  readonly kind: 'token' | 'string' | 'numeric'
}

/** What can be searched in a kind of object: field name → kind and value. `metadata` is always there. */
export type SearchFields<T> = Readonly<Record<string, SearchField & { readonly read: (object: T) => unknown }>>

type Operator = ':' | '~' | '>' | '<' | '>=' | '<='

interface Clause {
  readonly field: string
  /** The key of `metadata["key"]`. */
  readonly key: string | null
  readonly operator: Operator
  readonly value: string | null
  readonly negated: boolean
}

interface Query {
  readonly clauses: readonly Clause[]
  readonly join: 'AND' | 'OR'
}

const CLAUSE =
  /^(-?)([a-z_][a-z_.0-9]*)(?:\[(["'])(.*?)\3\])?(:|~|>=|<=|>|<)(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|(-?[\w.@+-]+))\s*/i
const MAX_CLAUSES = 10

/** Reads a query; throws Stripe's 400 for one that cannot be read. */
export function parseQuery(text: string): Query {
  const clauses: Clause[] = []
  const joins = new Set<'AND' | 'OR'>()
  let rest = text.trim()
  while (rest !== '') {
    const match = CLAUSE.exec(rest)
    if (match === null) throw unreadable(text)
    clauses.push(clauseOf(match))
    rest = rest.slice(match[0].length)
    if (rest === '') break
    const join = /^(AND|OR)\s+/i.exec(rest)
    if (join !== null) {
      rest = rest.slice(join[0].length)
      if (rest === '') throw unreadable(text)
    }
    joins.add(join?.[1]?.toUpperCase() === 'OR' ? 'OR' : 'AND')
  }
  if (clauses.length === 0) throw unreadable(text)
  if (joins.size > 1) throw invalidRequest('You can use either AND or OR in a query, not both.', { param: 'query' })
  if (clauses.length > MAX_CLAUSES) throw invalidRequest(`A query may hold at most ${MAX_CLAUSES} clauses.`, { param: 'query' })
  return { clauses, join: joins.has('OR') ? 'OR' : 'AND' }
}

function clauseOf(match: RegExpExecArray): Clause {
  const [, minus, field = '', , key, operator = ':', doubleQuoted, singleQuoted, bare] = match
  const quoted = doubleQuoted ?? singleQuoted
  const value = quoted === undefined ? (bare === 'null' ? null : (bare ?? '')) : quoted.replaceAll(/\\(.)/g, '$1')
  return { field: field.toLowerCase(), key: key ?? null, operator: operator as Operator, value, negated: minus === '-' }
}

function unreadable(text: string) {
  return invalidRequest(
    `We were unable to parse your search query: ${text}. Read https://stripe.com/docs/search for how to write one.`,
    {
      param: 'query',
    },
  )
}

/** True when an object fits the query. */
export function fits<T extends object>(query: Query, object: T, fields: SearchFields<T>): boolean {
  const test = (clause: Clause) => fitsClause(clause, object, fields)
  return query.join === 'OR' ? query.clauses.some(test) : query.clauses.every(test)
}

function fitsClause<T extends object>(clause: Clause, object: T, fields: SearchFields<T>): boolean {
  const kind = clause.key === null ? fields[clause.field]?.kind : 'string'
  const found = compares(clause, valueOf(clause, object, fields), kind ?? 'token')
  return clause.negated ? !found : found
}

function checkClause<T>(clause: Clause, fields: SearchFields<T>): void {
  const refuse = (message: string) => {
    throw invalidRequest(message, { param: 'query' })
  }
  const kind = clause.key === null ? fields[clause.field]?.kind : clause.field === 'metadata' ? 'string' : undefined
  if (kind === undefined) refuse(`Field \`${clause.field}\` is an unsupported search field for this resource.`)
  if (clause.operator === '~' && kind !== 'string') refuse(`Field \`${clause.field}\` does not support matching a part of it.`)
  if (clause.operator === '~' && (clause.value ?? '').length < 3) refuse('A part of a field must be at least 3 characters long.')
  if (/[<>]/.test(clause.operator) && kind !== 'numeric') refuse(`Field \`${clause.field}\` does not support comparisons.`)
}

function valueOf<T extends object>(clause: Clause, object: T, fields: SearchFields<T>): unknown {
  if (clause.key === null) return fields[clause.field]?.read(object)
  const { metadata } = object as { metadata?: Record<string, string> }
  return metadata?.[clause.key]
}

function compares(clause: Clause, value: unknown, kind: SearchField['kind']): boolean {
  if (clause.value === null) return value === null || value === undefined
  if (value === null || value === undefined) return false
  if (kind === 'numeric') return comparesNumber(clause.operator, Number(value), Number(clause.value))
  const [text, wanted] = [textOf(value).toLowerCase(), clause.value.toLowerCase()]
  if (clause.operator !== '~') return text === wanted
  return text.includes(wanted)
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value)
}

function comparesNumber(operator: Operator, left: number, right: number): boolean {
  switch (operator) {
    case '>':
      return left > right
    case '<':
      return left < right
    case '>=':
      return left >= right
    case '<=':
      return left <= right
    case ':':
    case '~':
      return left === right
  }
}

/** A page of a search, as the API answers it; `page` of the next request is the `next_page` of this one. */
export interface SearchResult<T> {
  object: 'search_result'
  data: T[]
  has_more: boolean
  next_page: string | null
  url: string
  /** Shown as `total_count` when `expand` asks for it. */
  _: { total_count: number }
}

/** Carries a search out over all objects of a kind, newest first. Unlike Stripe's, it sees the latest writes. */
export function search<K extends StoredName>(
  ctx: Ctx,
  name: K,
  params: { query: string; limit?: number; page?: string },
  options: { url: string; fields: SearchFields<Stored<K>> },
): SearchResult<Stored<K>> {
  const query = parseQuery(params.query)
  // A query that is wrong is refused also when there is nothing to search.
  for (const clause of query.clauses) checkClause(clause, options.fields)
  const limit = pageLimit(params.limit)
  const found: Array<Stored<K>> = []
  for (const object of ctx.store.walk(name, { forward: false })) {
    if (fits(query, object as Stored<K> & object, options.fields as SearchFields<Stored<K> & object>)) found.push(object)
  }
  const start = params.page === undefined ? 0 : offsetOf(params.page)
  const end = start + limit
  return {
    object: 'search_result',
    data: found.slice(start, end),
    has_more: found.length > end,
    next_page: found.length > end ? Buffer.from(String(end)).toString('base64url') : null,
    url: options.url,
    _: { total_count: found.length },
  }
}

function offsetOf(page: string): number {
  const offset = Number(Buffer.from(page, 'base64url').toString())
  if (Number.isSafeInteger(offset) && offset > 0) return offset
  throw invalidRequest(`Invalid page: ${page}`, { param: 'page' })
}

/** Fields for `search`. */
export const field = {
  token: <T>(read: (object: T) => unknown) => ({ kind: 'token' as const, read }),
  string: <T>(read: (object: T) => unknown) => ({ kind: 'string' as const, read }),
  numeric: <T>(read: (object: T) => unknown) => ({ kind: 'numeric' as const, read }),
}
