import { StripeError } from './errors.ts'
import { resolve, type Schema } from './spec.ts'

/** Body of a request before its types are known: form text (all leaves are strings) or JSON. */
export type RawParams = Record<string, unknown>

type Encoding = 'form' | 'json'

/** Text fields that Stripe lets a caller clear with `''` although the SDK's types do not say so. */
const CLEARABLE = new Set(
  'city country description email footer line1 line2 memo name nickname phone postal_code state statement_descriptor unit_label url'.split(
    ' ',
  ),
)

const MAX_STRING = 5000

/**
 * Checks raw parameters against an operation's schema and gives the values their types. Throws the error that Stripe answers:
 * `parameter_unknown`, `parameter_missing`, `parameter_invalid_integer`, `parameter_invalid_empty`, or a sentence on the value.
 */
export function parseParams(schema: Schema, raw: RawParams, encoding: Encoding): Record<string, unknown> {
  return parseObject(schema, raw, '', encoding)
}

function refuse(message: string, param: string, code?: string): never {
  const body = { type: 'invalid_request_error' as const, message, param }
  throw new StripeError(400, code === undefined ? body : { ...body, code }, { beforeExecution: true })
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function nested(parent: string, name: string | number): string {
  return parent === '' ? String(name) : `${parent}[${name}]`
}

function parseObject(schema: Schema, raw: unknown, param: string, encoding: Encoding): Record<string, unknown> {
  if (!isRecord(raw)) return refuse('Invalid object', param)
  const result: Record<string, unknown> = {}
  const extra = schema.additionalProperties
  for (const [name, value] of Object.entries(raw)) {
    const member = schema.properties?.[name] ?? (typeof extra === 'object' ? extra : undefined)
    const path = nested(param, name)
    if (member !== undefined) result[name] = parseMember(member, value, path, encoding, schema.properties?.[name] === undefined)
    else if (extra === true || isFree(schema)) result[name] = value
    else refuse(`Received unknown parameter: ${path}`, path, 'parameter_unknown')
  }
  for (const name of schema.required ?? []) {
    if (result[name] === undefined) {
      const path = nested(param, name)
      refuse(`Missing required param: ${path}.`, path, 'parameter_missing')
    }
  }
  return result
}

/** A schema that says nothing about its members: payment-method-specific hashes that the document leaves out. */
function isFree(schema: Schema): boolean {
  return schema.properties === undefined && schema.additionalProperties === undefined
}

function parseMember(schema: Schema, raw: unknown, param: string, encoding: Encoding, isMapValue: boolean): unknown {
  if (raw === '' || raw === null) return parseEmpty(schema, raw, param, encoding, isMapValue)
  return parseValue(schema, raw, param, encoding)
}

function parseEmpty(schema: Schema, raw: '' | null, param: string, encoding: Encoding, isMapValue: boolean): unknown {
  if (encoding === 'json') {
    if (raw === null && (schema.nullable === true || schema['x-emptyable'] === true)) return null
    return raw === null ? refuse(`Invalid value for ${param}: null`, param) : parseValue(schema, raw, param, encoding)
  }
  const name = param.slice(param.lastIndexOf('[') + 1).replace(']', '')
  const isText = schema.type === 'string' && schema.enum === undefined
  if (schema['x-emptyable'] === true || schema.nullable === true || isMapValue || (isText && CLEARABLE.has(name))) return ''
  return refuse(
    `You passed an empty string for '${param}'. We assume empty values are an attempt to unset a parameter; however '${param}' cannot be unset. ` +
      `You should remove '${param}' from your request or supply a non-empty value.`,
    param,
    'parameter_invalid_empty',
  )
}

function parseValue(schema: Schema, raw: unknown, param: string, encoding: Encoding): unknown {
  if (schema.$ref !== undefined) return raw
  if (schema.anyOf !== undefined) return parseAnyOf(schema.anyOf, raw, param, encoding)
  switch (schema.type) {
    case 'object':
      return parseObject(schema, raw, param, encoding)
    case 'array':
      return parseArray(schema, raw, param, encoding)
    case 'integer':
      return parseInteger(raw, param)
    case 'number':
      return parseNumber(raw, param)
    case 'boolean':
      return parseBoolean(raw, param)
    case 'string':
      return parseString(schema, raw, param, encoding)
    case undefined:
      return raw
  }
}

function parseArray(schema: Schema, raw: unknown, param: string, encoding: Encoding): unknown[] {
  const elements = elementsOf(raw, param)
  const items = schema.items ?? {}
  return elements.map((element, index) => parseMember(items, element, nested(param, index), encoding, false))
}

/** Lists arrive as JSON arrays or as objects with numeric keys, in any order. */
function elementsOf(raw: unknown, param: string): unknown[] {
  if (Array.isArray(raw)) return raw
  if (!isRecord(raw)) return refuse('Invalid array', param)
  const keys = Object.keys(raw)
  if (keys.some((key) => !/^\d+$/.test(key))) return refuse('Invalid array', param)
  return keys.sort((left, right) => Number(left) - Number(right)).map((key) => raw[key])
}

function parseInteger(raw: unknown, param: string): number {
  const value = typeof raw === 'string' && /^[+-]?\d{1,16}$/.test(raw) ? Number(raw) : raw
  if (typeof value === 'number' && Number.isSafeInteger(value)) return value
  return refuse(`Invalid integer: ${textOf(raw)}`, param, 'parameter_invalid_integer')
}

function parseNumber(raw: unknown, param: string): number {
  const value = typeof raw === 'string' && /^[+-]?(\d+\.?\d*|\.\d+)$/.test(raw) ? Number(raw) : raw
  return typeof value === 'number' && Number.isFinite(value) ? value : refuse(`Invalid decimal: ${textOf(raw)}`, param)
}

function parseBoolean(raw: unknown, param: string): boolean {
  if (raw === true || raw === 'true') return true
  if (raw === false || raw === 'false') return false
  return refuse(`Invalid boolean: ${textOf(raw)}`, param)
}

function parseString(schema: Schema, raw: unknown, param: string, encoding: Encoding): string {
  if (encoding === 'json' && typeof raw !== 'string') return refuse(`Invalid string: ${textOf(raw)}`, param)
  if (typeof raw !== 'string' && typeof raw !== 'number') return refuse(`Invalid string: ${textOf(raw)}`, param)
  const text = String(raw)
  if (schema.enum !== undefined && !schema.enum.includes(text)) return refuse(enumMessage(schema.enum, param), param)
  if (schema.format === 'decimal' && !/^-?(\d+\.?\d*|\.\d+)$/.test(text)) return refuse(`Invalid decimal: ${text}`, param)
  if (text.length > MAX_STRING)
    return refuse(`Invalid string: ${text.slice(0, 10)}…; must be at most ${MAX_STRING} characters`, param)
  return text
}

function enumMessage(values: string[], param: string): string {
  if (values.length === 1) return `Invalid ${param}: must be ${values[0]}`
  return `Invalid ${param}: must be one of ${values.slice(0, -1).join(', ')}, or ${values.at(-1)}`
}

/** Takes the first alternative that fits the value; numbers and objects are tried before text. */
function parseAnyOf(alternatives: Schema[], raw: unknown, param: string, encoding: Encoding): unknown {
  const ranked = [...alternatives].sort((left, right) => looseness(left) - looseness(right))
  let firstError: unknown
  for (const alternative of ranked) {
    if ((alternative.type === 'object' || alternative.type === 'array') !== (typeof raw === 'object')) continue
    try {
      return parseValue(alternative, raw, param, encoding)
    } catch (error) {
      firstError ??= error
    }
  }
  if (firstError !== undefined) throw firstError
  return refuse(`Invalid value for ${param}`, param)
}

function looseness(schema: Schema): number {
  return schema.type === 'string' ? (schema.enum === undefined ? 2 : 1) : 0
}

function textOf(raw: unknown): string {
  return typeof raw === 'string' ? raw : JSON.stringify(raw)
}

/** True when the operation's schema knows a parameter at this dotted path (`subscription_data.trial_period_days`). */
export function knowsParameter(schema: Schema, path: string, schemas: Record<string, Schema>): boolean {
  let current: Schema | undefined = schema
  for (const name of path.split('.')) {
    current = current === undefined ? undefined : resolve(current, schemas)
    if (current?.anyOf !== undefined) current = current.anyOf.find((member) => member.type === 'object')
    if (current?.type === 'array') current = current.items
    current = current?.properties?.[name]
  }
  return current !== undefined
}
