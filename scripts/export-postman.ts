// Writes a Postman collection (v2.1) from an OpenAPI document: `export_postman.sh` calls it. Own code, since the collection's
// form is small and the usual converter brings 85 packages and ids that differ from run to run.
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { createHash } from 'node:crypto'

type Schema = {
  readonly $ref?: string
  readonly type?: string | readonly string[]
  readonly example?: unknown
  readonly default?: unknown
  readonly enum?: readonly unknown[]
  readonly anyOf?: readonly Schema[]
  readonly oneOf?: readonly Schema[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly items?: Schema
}
type Parameter = { readonly name: string; readonly in: string; readonly required?: boolean; readonly description?: string }
type Operation = {
  readonly tags?: readonly string[]
  readonly summary?: string
  readonly description?: string
  readonly security?: readonly unknown[]
  readonly parameters?: readonly Parameter[]
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> }
}
type Document = {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>
  readonly components?: { readonly schemas?: Readonly<Record<string, Schema>> }
}

/** What MR-1 to MR-10 name, and what goes with it; the rest of the document is not Mini-RAG's. */
const EXPORTED =
  /^\/api\/v1\/(ask|ingest\/\w+|sources|billing\/(checkout|portal|webhook|subscription|gate|invoices)|admin\/(workspaces|billing|billing\/\{org_id\}))$/

const METHODS = new Set(['get', 'post', 'put', 'patch', 'delete'])

/** The collection of a document; the same document makes the same text. */
export function toCollection(document: Document, name: string): object {
  const folders = new Map<string, object[]>()
  for (const [path, operations] of Object.entries(document.paths)) {
    if (!EXPORTED.test(path)) continue
    for (const [method, operation] of Object.entries(operations)) {
      if (!METHODS.has(method)) continue
      const tag = operation.tags?.[0] ?? 'Other'
      folders.set(tag, [...(folders.get(tag) ?? []), toItem(document, { path, method, operation })])
    }
  }
  return {
    info: {
      _postman_id: createHash('sha256').update(name).digest('hex').slice(0, 32),
      name,
      description: 'Asking, ingesting and billing. Set baseUrl and apiKey.',
      schema: 'https://schema.getpostman.com/json/collection/v2.1.0/collection.json',
    },
    auth: { type: 'bearer', bearer: [{ key: 'token', value: '{{apiKey}}', type: 'string' }] },
    variable: [
      { key: 'baseUrl', value: 'http://localhost:3000' },
      { key: 'apiKey', value: '' },
    ],
    item: [...folders].map(([tag, item]) => ({ name: tag, item })),
  }
}

type Call = { readonly path: string; readonly method: string; readonly operation: Operation }

function toItem(document: Document, { path, method, operation }: Call): object {
  const { summary, description, parameters = [], security } = operation
  const segments = path.split('/').filter((segment) => segment !== '')
  const query = parameters.filter((parameter) => parameter.in === 'query')
  const variable = parameters.filter((parameter) => parameter.in === 'path')
  const shown = segments.map((segment) => segment.replace(/^\{(.+)\}$/, ':$1'))
  return {
    name: summary ?? `${method.toUpperCase()} ${path}`,
    request: {
      ...(security?.length === 0 ? { auth: { type: 'noauth' } } : {}),
      method: method.toUpperCase(),
      description: description ?? '',
      header: [],
      url: {
        raw: `{{baseUrl}}/${shown.join('/')}`,
        host: ['{{baseUrl}}'],
        path: shown,
        query: query.map((each) => ({
          key: each.name,
          value: '',
          description: each.description ?? '',
          disabled: each.required !== true,
        })),
        variable: variable.map(({ name }) => ({ key: name, value: '' })),
      },
      ...bodyOf(document, operation),
    },
  }
}

function bodyOf(document: Document, { requestBody }: Operation): object {
  const content = requestBody?.content ?? {}
  if (content['multipart/form-data'] !== undefined) {
    const fields = Object.keys(content['multipart/form-data'].schema.properties ?? {})
    return { body: { mode: 'formdata', formdata: fields.map((key) => ({ key, type: 'file', src: [] })) } }
  }
  const json = content['application/json']
  if (json === undefined) return {}
  const raw = JSON.stringify(sampleOf(document, json.schema), null, 2)
  return { body: { mode: 'raw', raw, options: { raw: { language: 'json' } } } }
}

/** A body with every required field, and with what the schema itself gives as an example or default. */
function sampleOf(document: Document, schema: Schema, depth = 0): unknown {
  if (schema.$ref !== undefined) {
    return sampleOf(document, document.components?.schemas?.[schema.$ref.split('/').at(-1)!] ?? {}, depth + 1)
  }
  if (schema.example !== undefined) return schema.example
  if (schema.default !== undefined) return schema.default
  if (schema.enum !== undefined) return schema.enum[0]
  const choice = schema.anyOf?.[0] ?? schema.oneOf?.[0]
  if (choice !== undefined) return sampleOf(document, choice, depth + 1)
  const type = typeof schema.type === 'string' ? schema.type : schema.type?.[0]
  if (type === 'array') return depth > 5 ? [] : [sampleOf(document, schema.items ?? {}, depth + 1)]
  if (type === 'integer' || type === 'number') return 1
  if (type === 'boolean') return false
  if (type === 'string') return ''
  const required = Object.entries(schema.properties ?? {}).filter(([name]) => schema.required?.includes(name))
  return Object.fromEntries(required.map(([name, property]) => [name, sampleOf(document, property, depth + 1)]))
}

const [url = '', out = ''] = process.argv.slice(2)
const response = await fetch(url).catch(() => null)
if (response?.ok === true) {
  mkdirSync(dirname(out), { recursive: true })
  writeFileSync(out, `${JSON.stringify(toCollection((await response.json()) as Document, 'Mini-RAG'), null, 2)}\n`)
  process.stdout.write(`${out}\n`)
} else {
  const reason = response === null ? 'cannot be reached' : `answered ${response.status}`
  process.stderr.write(`${url} ${reason}. Start a server first (npm run example -- mini-rag), or name its address.\n`)
  process.exitCode = 1
}
