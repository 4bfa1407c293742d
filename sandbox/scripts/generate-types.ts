/**
 * Writes `src/wire.gen.ts` from `spec/stripe-openapi.json`: the types of every object on the wire, of every
 * operation's parameters and the list of operations. Run it after the document changes: `node sandbox/scripts/generate-types.ts`.
 * `test/generated.test.ts` fails when the file on disk is not what this makes.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

interface Schema {
  type?: string
  properties?: Record<string, Schema>
  required?: string[]
  items?: Schema
  enum?: string[]
  anyOf?: Schema[]
  nullable?: boolean
  additionalProperties?: Schema | boolean
  $ref?: string
  'x-emptyable'?: boolean
}

interface ParameterSpec {
  name: string
  in: 'path' | 'query'
  required: boolean
  schema: Schema
}

interface OperationSpec {
  operationId: string
  parameters?: ParameterSpec[]
  requestBody?: { content: Record<string, { schema: Schema }> }
}

interface Document {
  paths: Record<string, Record<string, OperationSpec>>
  components: { schemas: Record<string, Schema> }
}

/** Enums longer than this are written once, under a name. */
const SHARED_ENUM_FROM = 9

class EnumTable {
  private readonly names = new Map<string, string>()
  readonly lines: string[] = []

  nameOf(values: string[]): string {
    const union = values.map((value) => JSON.stringify(value)).join(' | ')
    const known = this.names.get(union)
    if (known !== undefined) return known
    const name = `Enum${this.names.size + 1}`
    this.names.set(union, name)
    this.lines.push(`export type ${name} = ${union}`)
    return name
  }
}

/** `billing.credit_grant` → `BillingCreditGrant` */
function typeName(schemaName: string): string {
  return schemaName
    .split(/[._]/)
    .map((part) => part.slice(0, 1).toUpperCase() + part.slice(1))
    .join('')
}

function typeOf(schema: Schema, enums: EnumTable, isParameter: boolean): string {
  const alternatives = [bareTypeOf(schema, enums, isParameter)]
  if (isParameter && schema['x-emptyable'] === true) alternatives.push("''")
  if (schema.nullable === true) alternatives.push('null')
  return alternatives.join(' | ')
}

function bareTypeOf(schema: Schema, enums: EnumTable, isParameter: boolean): string {
  if (schema.$ref !== undefined) return typeName(schema.$ref.replace('#/components/schemas/', ''))
  if (schema.anyOf !== undefined) {
    const members = new Set(schema.anyOf.map((member) => typeOf(member, enums, isParameter)))
    return [...members].join(' | ')
  }
  if (schema.enum !== undefined) {
    if (schema.enum.length >= SHARED_ENUM_FROM) return enums.nameOf(schema.enum)
    return schema.enum.map((value) => JSON.stringify(value)).join(' | ')
  }
  if (schema.type === 'array') return `Array<${typeOf(schema.items ?? {}, enums, isParameter)}>`
  if (schema.type === 'object') return objectType(schema, enums, isParameter)
  if (schema.type === 'integer' || schema.type === 'number') return 'number'
  return schema.type ?? 'unknown'
}

function objectType(schema: Schema, enums: EnumTable, isParameter: boolean): string {
  const properties = Object.entries(schema.properties ?? {})
  const extra = schema.additionalProperties
  if (properties.length === 0) {
    if (typeof extra === 'object') return `Record<string, ${typeOf(extra, enums, isParameter)}>`
    return 'Record<string, unknown>'
  }
  const required = new Set(schema.required)
  const members = properties.map(([name, member]) => {
    const key = /^[a-z_]\w*$/i.test(name) ? name : JSON.stringify(name)
    return `${key}${required.has(name) ? '' : '?'}: ${typeOf(member, enums, isParameter)}`
  })
  return `{ ${members.join('; ')} }`
}

function parametersType(operation: OperationSpec, enums: EnumTable): string {
  const body = Object.values(operation.requestBody?.content ?? {})[0]?.schema ?? { type: 'object' }
  const query = (operation.parameters ?? []).filter((parameter) => parameter.in === 'query')
  const properties = { ...body.properties, ...Object.fromEntries(query.map((parameter) => [parameter.name, parameter.schema])) }
  const required = [
    ...(body.required ?? []),
    ...query.filter((parameter) => parameter.required).map((parameter) => parameter.name),
  ]
  if (Object.keys(properties).length === 0) return '{}'
  return objectType({ type: 'object', properties, required }, enums, true)
}

/** The text of `wire.gen.ts` for an OpenAPI document. */
export function generateTypes(document: Document): string {
  const enums = new EnumTable()
  const schemas = Object.entries(document.components.schemas)
  const objects = schemas.map(([name, schema]) => `export interface ${typeName(name)} ${bareTypeOf(schema, enums, false)}`)
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(() => path.startsWith('/'))
      .map(([method, operation]) => `  '${method.toUpperCase()} ${path}': ${parametersType(operation, enums)}`),
  )
  return [
    '// Written by scripts/generate-types.ts from spec/stripe-openapi.json. Do not edit.',
    ...enums.lines,
    ...objects,
    '/** Every object of the document by its `object` name; expandable fields hold ids. */',
    'export interface Wire {',
    ...schemas.map(([name]) => `  '${name}': ${typeName(name)}`),
    '}',
    '/** Parameters of every operation (query and body). */',
    'export interface Params {',
    ...operations,
    '}',
    'export type OperationKey = keyof Params',
    '',
  ].join('\n')
}

export const specFile = fileURLToPath(new URL('../spec/stripe-openapi.json', import.meta.url))
export const typesFile = fileURLToPath(new URL('../src/wire.gen.ts', import.meta.url))

if (import.meta.main) {
  const document = JSON.parse(readFileSync(specFile, 'utf8')) as Document
  writeFileSync(typesFile, generateTypes(document))
}
