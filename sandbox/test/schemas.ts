import { Ajv, type ValidateFunction } from 'ajv'
import { loadSpec, type Schema } from '../src/engine/spec.ts'

/**
 * Checks objects against the contract, strictly: a field that the document does not know is a fault too. `x-expandable` fields may hold
 * the id or the object.
 */
export class Contract {
  private readonly ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false, inlineRefs: false })
  private readonly validators = new Map<string, ValidateFunction>()
  private readonly spec = loadSpec()

  constructor() {
    for (const [name, schema] of Object.entries(this.spec.schemas)) {
      this.ajv.addSchema(strictly(name === 'error' ? withMoreCodes(schema) : schema, this.spec.schemas), refOf(name))
    }
  }

  /** Path templates of the operations with this method. */
  operationKeys(method: string): string[] {
    return [...this.spec.operations.values()]
      .filter((operation) => operation.method === method)
      .map((operation) => operation.path)
  }

  /** What is wrong with an answer of an operation (`POST /v1/customers`); empty when nothing is. */
  faultsOfAnswer(operation: string, body: unknown): string[] {
    const response = this.spec.operations.get(operation)?.response
    if (response === undefined) return [`${operation} is not in the contract`]
    return this.faults(operation, response, body)
  }

  /** What is wrong with an object by its `object` name. */
  faultsOfObject(body: Record<string, unknown>): string[] {
    const name = String(body['object'])
    return name in this.spec.schemas
      ? this.faults(`object ${name}`, { $ref: `#/components/schemas/${name}` }, body)
      : [`unknown object '${name}'`]
  }

  /** What is wrong with an error body. */
  faultsOfError(body: unknown): string[] {
    return this.faults('error', { $ref: '#/components/schemas/error' }, body)
  }

  private faults(key: string, schema: Schema, body: unknown): string[] {
    const validate = this.validators.get(key) ?? this.ajv.compile(strictly(schema, this.spec.schemas))
    this.validators.set(key, validate)
    if (validate(body)) return []
    return (validate.errors ?? []).map((error) => {
      const detail = error.keyword === 'additionalProperties' ? JSON.stringify(error.params) : ''
      return `${error.instancePath || '/'} ${error.message ?? ''} ${detail}, is ${JSON.stringify(valueAt(body, error.instancePath))?.slice(0, 100)}`
    })
  }
}

/**
 * Error codes that Stripe documents elsewhere than in the list of the SDK's types: docs.stripe.com/billing/subscriptions/usage-based/meters/configure and
 * docs.stripe.com/error-codes.
 */
const MORE_CODES = [
  'archived_meter',
  'billing_meter_event_session_expired',
  'duplicate_meter_event',
  'invalid_api_key',
  'meter_event_customer_not_found',
  'meter_event_invalid_value',
  'meter_event_no_customer_defined',
  'meter_event_value_too_many_digits',
  'no_meter',
  'timestamp_in_future',
  'timestamp_too_far_in_past',
]

/** The error schema with the codes that its list lacks. */
function withMoreCodes(schema: Schema): Schema {
  const error = schema.properties?.['error'] ?? {}
  const code = error.properties?.['code'] ?? {}
  const more = { ...code, enum: [...(code.enum ?? []), ...MORE_CODES] }
  return { ...schema, properties: { ...schema.properties, error: { ...error, properties: { ...error.properties, code: more } } } }
}

/** The value at a JSON pointer. */
function valueAt(body: unknown, pointer: string): unknown {
  return pointer
    .split('/')
    .slice(1)
    .reduce<unknown>((value, key) => (typeof value === 'object' && value !== null ? (value as AnySchema)[key] : undefined), body)
}

function refOf(name: string): string {
  return `contract:${name}`
}

type AnySchema = Record<string, unknown>

/** The document's schema as JSON Schema that ajv understands, closed against unknown fields. */
function strictly(schema: Schema, schemas: Record<string, Schema>): AnySchema {
  const strict = bare(schema, schemas)
  return schema.nullable === true ? { anyOf: [strict, { type: 'null' }] } : strict
}

function bare(schema: Schema, schemas: Record<string, Schema>): AnySchema {
  if (schema.$ref !== undefined) return { $ref: refOf(schema.$ref.slice('#/components/schemas/'.length)) }
  const expandable = schema['x-expandable']
  if (expandable !== undefined) {
    const objects = expandable.map((name) => (name in schemas ? { $ref: refOf(name) } : { type: 'object' }))
    return { anyOf: [{ type: 'string' }, ...objects] }
  }
  if (schema.anyOf !== undefined) return { anyOf: schema.anyOf.map((member) => strictly(member, schemas)) }
  if (schema.enum !== undefined) return { enum: schema.enum }
  if (schema.type === 'array') return { type: 'array', items: strictly(schema.items ?? {}, schemas) }
  if (schema.type !== 'object') return schema.type === undefined ? {} : { type: schema.type }
  const properties = Object.entries(schema.properties ?? {})
  const extra = schema.additionalProperties
  return {
    type: 'object',
    properties: Object.fromEntries(properties.map(([name, member]) => [name, strictly(member, schemas)])),
    required: schema.required ?? [],
    ...(typeof extra === 'object' ? { additionalProperties: strictly(extra, schemas) } : {}),
    ...(extra === undefined && properties.length > 0 ? { additionalProperties: false } : {}),
  }
}
