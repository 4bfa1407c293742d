/** What is read of a JSON schema. */
export type Schema = {
  readonly $ref?: string
  readonly type?: string | readonly string[]
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly example?: unknown
  readonly format?: string
  readonly minLength?: number
  readonly minimum?: number
  readonly anyOf?: readonly Schema[]
  readonly oneOf?: readonly Schema[]
  readonly allOf?: readonly Schema[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly items?: Schema
  readonly additionalProperties?: unknown
}

export type Operation = {
  readonly summary?: string
  readonly description?: string
  readonly parameters?: readonly {
    readonly name: string
    readonly in: string
    readonly required?: boolean
    readonly schema?: Schema
  }[]
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> }
  readonly security?: readonly unknown[]
}

export type Document = {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> }
}

/** A value that satisfies a schema: what is required and no more, and whatever `given` says a field is to be. */
export function sampleOf(document: Document, schema: Schema, given: Readonly<Record<string, unknown>> = {}): unknown {
  const inner = (part: Schema): unknown => sampleOf(document, part, given)
  if (schema.$ref !== undefined) return inner(document.components.schemas[schema.$ref.split('/').at(-1)!]!)
  if (schema.const !== undefined) return schema.const
  if (schema.example !== undefined) return schema.example
  if (schema.enum !== undefined) return schema.enum[0]
  const choice = schema.anyOf?.[0] ?? schema.oneOf?.[0]
  if (choice !== undefined) return inner(choice)
  if (schema.allOf !== undefined) return Object.assign({}, ...schema.allOf.map(inner)) as unknown
  const types: readonly (string | undefined)[] = typeof schema.type === 'object' ? schema.type : [schema.type]
  switch (types[0] ?? 'object') {
    case 'integer':
    case 'number':
      return Math.max(schema.minimum ?? 1, 1)
    case 'boolean':
      return false
    case 'array':
      return schema.items === undefined ? [] : [inner(schema.items)]
    case 'string':
      return stringOf(schema)
    default:
      return objectOf(document, schema, given)
  }
}

function stringOf({ format, minLength }: Schema): string {
  if (format === 'email') return 'a@example.com'
  if (format === 'date-time') return '2026-03-01T00:00:00Z'
  if (format === 'uri') return 'http://localhost:3000/'
  return 'x'.repeat(Math.max(minLength ?? 1, 1))
}

function objectOf(document: Document, { properties = {}, required = [] }: Schema, given: Readonly<Record<string, unknown>>) {
  const object: Record<string, unknown> = {}
  for (const [name, schema] of Object.entries(properties)) {
    if (name in given) object[name] = given[name]
    else if (required.includes(name)) object[name] = sampleOf(document, schema, given)
  }
  return object
}
