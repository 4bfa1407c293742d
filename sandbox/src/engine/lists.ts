import type { Stored, StoredName, StoredObject } from '../model/stored.ts'
import type { Ctx } from './context.ts'
import { invalidRequest, noSuch } from './errors.ts'

/** A page of a list, as the API answers it; `data` holds stored objects that the engine presents. */
export interface List<T = object> {
  object: 'list'
  data: T[]
  has_more: boolean
  url: string
}

type Range = number | { gt?: number; gte?: number; lt?: number; lte?: number }

/** The paging parameters that every list takes. */
export interface PageParams {
  limit?: number
  starting_after?: string
  ending_before?: string
  created?: Range
}

interface ListOptions<K extends StoredName> {
  /** `url` of the answer: the path asked for. */
  url: string
  /** Walk an index instead of everything: `['customer', 'cus_…']`. Undefined values fall back to everything. */
  by?: readonly [index: string, value: string | undefined]
  where?: (object: Stored<K>) => boolean
}

const DEFAULT_LIMIT = 10
const MAX_LIMIT = 100

/**
 * A page of a kind of object, newest first, as Stripe pages: `limit` 1–100 (10), `starting_after` or `ending_before` an object of the
 * list, `created` a time or a range.
 */
export function list<K extends StoredName>(ctx: Ctx, name: K, params: PageParams, options: ListOptions<K>): List<Stored<K>> {
  const limit = pageLimit(params.limit)
  const cursor = cursorOf(ctx, name, params)
  const [indexName, indexValue] = options.by ?? []
  const index = indexName !== undefined && indexValue !== undefined ? { index: { name: indexName, value: indexValue } } : {}
  const found: Array<Stored<K>> = []
  for (const object of ctx.store.walk(name, { ...index, ...cursor })) {
    if (!inRange((object as unknown as StoredObject)['created'], params.created)) continue
    if (options.where !== undefined && !options.where(object)) continue
    found.push(object)
    if (found.length > limit) break
  }
  const data = found.slice(0, limit)
  if (cursor.forward) data.reverse()
  return { object: 'list', data, has_more: found.length > limit, url: options.url }
}

/** A page of objects that are at hand in an array, in the order they are answered. */
export function pageOf<T extends { id: string }>(objects: readonly T[], params: PageParams, url: string): List<T> {
  const limit = pageLimit(params.limit)
  onlyOneCursor(params)
  const at = (id: string, param: string) => {
    const position = objects.findIndex((object) => object.id === id)
    if (position < 0) throw noSuch('object', id, param)
    return position
  }
  if (params.ending_before !== undefined) {
    const before = objects.slice(0, at(params.ending_before, 'ending_before'))
    return { object: 'list', data: before.slice(-limit), has_more: before.length > limit, url }
  }
  const rest = params.starting_after === undefined ? objects : objects.slice(at(params.starting_after, 'starting_after') + 1)
  return { object: 'list', data: rest.slice(0, limit), has_more: rest.length > limit, url }
}

/** A whole list in one page: for lists embedded in other objects. */
export function wholeList<T>(data: T[], url: string): List<T> {
  return { object: 'list', data, has_more: false, url }
}

/** Checks `limit`; 1–100, 10 unless told. */
export function pageLimit(limit: number | undefined): number {
  if (limit === undefined) return DEFAULT_LIMIT
  if (limit < 1)
    throw invalidRequest('This value must be greater than or equal to 1.', { param: 'limit', code: 'parameter_invalid_integer' })
  if (limit > MAX_LIMIT) {
    throw invalidRequest(`This value must be less than or equal to ${MAX_LIMIT}.`, {
      param: 'limit',
      code: 'parameter_invalid_integer',
    })
  }
  return limit
}

/** True when a time lies in a `created`-like filter. */
export function inRange(value: unknown, range: Range | undefined): boolean {
  if (range === undefined) return true
  if (typeof value !== 'number') return false
  if (typeof range === 'number') return value === range
  if (range.gt !== undefined && !(value > range.gt)) return false
  if (range.gte !== undefined && !(value >= range.gte)) return false
  if (range.lt !== undefined && !(value < range.lt)) return false
  return range.lte === undefined || value <= range.lte
}

function onlyOneCursor(params: PageParams): void {
  if (params.starting_after !== undefined && params.ending_before !== undefined) {
    throw invalidRequest('You can only specify one of these parameters: starting_after, ending_before.', {
      param: 'ending_before',
      code: 'parameters_exclusive',
    })
  }
}

function cursorOf(ctx: Ctx, name: StoredName, params: PageParams): { from?: string; forward: boolean } {
  onlyOneCursor(params)
  const from = params.starting_after ?? params.ending_before
  const forward = params.ending_before !== undefined
  if (from === undefined) return { forward }
  if (ctx.get(name, from) === undefined) throw noSuch(name, from, forward ? 'ending_before' : 'starting_after')
  return { from, forward }
}
