import type { StoredName, StoredObject } from '../model/stored.ts'
import type { Ctx } from './context.ts'
import { invalidRequest } from './errors.ts'
import type { Presenter } from './module.ts'
import { resolve, type Schema, type Spec } from './spec.ts'

const MAX_EXPAND_DEPTH = 4

type Json = Record<string, unknown>

/** Turns stored objects into objects of the wire, and expands what a request asks for. */
export class Renderer {
  private readonly presenters: Map<string, Presenter>
  private readonly spec: Spec

  constructor(presenters: Iterable<Presenter>, spec: Spec) {
    this.presenters = new Map([...presenters].map((presenter) => [presenter.name, presenter]))
    this.spec = spec
  }

  /** The object as the API shows it, nothing expanded. Lists are presented member by member; what is already presented stays as it is. */
  present(object: object, ctx: Ctx): Json {
    const value = object as Json
    if (
      Array.isArray(value['data']) &&
      (value['object'] === 'list' || value['object'] === 'search_result' || value['object'] === undefined)
    ) {
      return { ...without(value, ['_']), data: value['data'].map((member: object) => this.present(member, ctx)) }
    }
    const name = value['object']
    const presenter = typeof name === 'string' && value['deleted'] !== true ? this.presenters.get(name) : undefined
    if (presenter === undefined) return '_' in value ? without(value, ['_']) : value
    if (presented.has(value)) return value
    const result = without(value, ['_', ...Object.keys(presenter.onExpand)])
    Object.assign(result, presenter.compose(value as unknown as StoredObject, ctx))
    presented.add(result)
    return result
  }

  /** The answer to a request: presented, and expanded along `paths` (`data.customer`, `latest_invoice.payments`). */
  answer(object: object, paths: readonly string[], response: Schema, ctx: Ctx): Json {
    let result = this.present(object, ctx)
    for (const path of paths) {
      if (path === 'total_count' && result['object'] === 'search_result') {
        result = { ...result, ...(object as { _?: Json })._ }
        continue
      }
      const fields = path.split('.')
      // The `data` of a list is a level too.
      if (fields.length > MAX_EXPAND_DEPTH) {
        throw invalidRequest(`You cannot expand more than ${MAX_EXPAND_DEPTH} levels of a property. Property: ${path}`, {
          param: 'expand',
        })
      }
      result = this.expand(result, fields, response, ctx, path) as Json
    }
    return result
  }

  private expand(value: unknown, fields: readonly string[], schema: Schema, ctx: Ctx, path: string): unknown {
    const [field, ...rest] = fields
    if (field === undefined || value === null || value === undefined) return value
    if (Array.isArray(value))
      return value.map((member) => this.expand(member, fields, resolve(schema, this.spec.schemas).items ?? {}, ctx, path))
    const object = value as Json
    if (object['deleted'] === true) return object
    const own = this.schemaOf(object, schema)
    const ofAnyName = typeof own.additionalProperties === 'object' ? own.additionalProperties : undefined
    const member = own.properties?.[field] ?? ofAnyName
    if (member === undefined) throw cannotExpand(path, own)
    const found = this.valueOf(object, field, ctx)
    const candidates = expandable(member)
    const isLeaf = rest.length === 0
    if (candidates === null && isLeaf && found === object[field] && !isIncludable(own, field)) throw cannotExpand(path, own)
    const full = candidates === null ? found : this.lookUp(found, candidates, ctx)
    const next = isLeaf ? full : this.expand(full, rest, member, ctx, path)
    return { ...object, [field]: next }
  }

  /** The member as it stands, or the value of a field that is shown only when asked for. */
  private valueOf(object: Json, field: string, ctx: Ctx): unknown {
    const found = object[field]
    if (found !== undefined) return found
    const name = object['object']
    const onExpand = typeof name === 'string' ? this.presenters.get(name)?.onExpand[field] : undefined
    if (onExpand === undefined) return undefined
    const stored = typeof object['id'] === 'string' ? ctx.get(name as StoredName, object['id']) : undefined
    const value = onExpand((stored ?? object) as StoredObject, ctx)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? this.present(value, ctx) : value
  }

  /** Replaces ids by the objects they name. An id that names nothing stays. */
  private lookUp(value: unknown, candidates: readonly string[], ctx: Ctx): unknown {
    if (Array.isArray(value)) return value.map((id) => this.lookUp(id, candidates, ctx))
    if (typeof value !== 'string') return value
    for (const name of candidates) {
      if (this.spec.schemas[name] === undefined || !ctx.store.has(name as StoredName)) continue
      const stored = ctx.get(name as StoredName, value)
      if (stored !== undefined) return this.present(stored, ctx)
    }
    return value
  }

  private schemaOf(object: Json, schema: Schema): Schema {
    const name = object['object']
    const named = typeof name === 'string' ? this.spec.schemas[name] : undefined
    return named ?? resolve(schema, this.spec.schemas)
  }
}

/** Objects that `present` made: presenting them again changes nothing. */
const presented = new WeakSet<object>()

function without(object: Json, fields: readonly string[]): Json {
  const result: Json = {}
  for (const name in object) if (!fields.includes(name)) result[name] = object[name]
  return result
}

/** Names of the objects that an expandable field may hold; null when the field is not expandable. */
function expandable(schema: Schema): readonly string[] | null {
  return schema['x-expandable'] ?? schema.items?.['x-expandable'] ?? null
}

/** Optional objects and lists of the document are the ones that `expand` includes; naming one is never an error. */
function isIncludable(owner: Schema, field: string): boolean {
  return !(owner.required ?? []).includes(field) || owner.properties?.[field]?.$ref !== undefined
}

function cannotExpand(path: string, owner: Schema) {
  const hint = owner.properties?.['data'] === undefined ? '' : ` You may want to try expanding 'data.${path}' instead.`
  return invalidRequest(`This property cannot be expanded (${path}).${hint}`, { param: 'expand' })
}
