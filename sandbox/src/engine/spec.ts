import { readFileSync } from 'node:fs'
import type { OperationKey } from '../wire.gen.ts'

/** A schema of `spec/stripe-openapi.json`: the small part of JSON Schema that the document uses. */
export interface Schema {
  type?: 'object' | 'array' | 'string' | 'integer' | 'number' | 'boolean'
  properties?: Record<string, Schema>
  required?: string[]
  items?: Schema
  enum?: string[]
  anyOf?: Schema[]
  nullable?: boolean
  format?: string
  additionalProperties?: Schema | boolean
  $ref?: string
  'x-expandable'?: string[]
  'x-emptyable'?: boolean
  'x-open-enum'?: boolean
  'x-omitted-resource'?: string
}

interface ParameterSpec {
  name: string
  in: 'path' | 'query'
  required: boolean
  schema: Schema
}

interface OperationDocument {
  operationId: string
  parameters?: ParameterSpec[]
  requestBody?: { content: Record<string, { schema: Schema }> }
  responses: Record<string, { content: Record<string, { schema: Schema }> }>
}

interface Document {
  info: { version: string }
  paths: Record<string, Record<string, OperationDocument>>
  components: { schemas: Record<string, Schema> }
}

/** One operation of the contract. */
export interface OperationSpec {
  key: OperationKey
  method: string
  path: string
  /** `Customer.create` */
  operationId: string
  /** Query and body parameters as one object schema. */
  params: Schema
  response: Schema
}

export interface Spec {
  /** `2026-10-28.endive` */
  version: string
  schemas: Record<string, Schema>
  operations: Map<string, OperationSpec>
}

let loaded: Spec | undefined

/** The contract, read once per process. */
export function loadSpec(): Spec {
  loaded ??= readSpec()
  return loaded
}

function readSpec(): Spec {
  const file = new URL('../../spec/stripe-openapi.json', import.meta.url)
  const document = JSON.parse(readFileSync(file, 'utf8')) as Document
  const operations = new Map<string, OperationSpec>()
  for (const [path, methods] of Object.entries(document.paths)) {
    if (!path.startsWith('/')) continue
    for (const [method, operation] of Object.entries(methods)) {
      const key = `${method.toUpperCase()} ${path}` as OperationKey
      operations.set(key, {
        key,
        method: method.toUpperCase(),
        path,
        operationId: operation.operationId,
        params: paramsSchema(operation),
        response: operation.responses['200']?.content['application/json']?.schema ?? {},
      })
    }
  }
  return { version: document.info.version, schemas: document.components.schemas, operations }
}

function paramsSchema(operation: OperationDocument): Schema {
  const body = Object.values(operation.requestBody?.content ?? {})[0]?.schema
  const query = (operation.parameters ?? []).filter((parameter) => parameter.in === 'query')
  return {
    type: 'object',
    properties: { ...body?.properties, ...Object.fromEntries(query.map(({ name, schema }) => [name, schema])) },
    required: [...(body?.required ?? []), ...query.filter((parameter) => parameter.required).map(({ name }) => name)],
  }
}

/** Follows `$ref` and the `anyOf: [$ref]` that the document uses for nullable references. */
export function resolve(schema: Schema, schemas: Record<string, Schema>): Schema {
  if (schema.$ref !== undefined) return schemas[schema.$ref.slice('#/components/schemas/'.length)] ?? {}
  const only = schema.anyOf?.length === 1 ? schema.anyOf[0] : undefined
  return only === undefined ? schema : resolve(only, schemas)
}
