import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startSandbox, type Sandbox } from '@tollgate/stripe-sandbox'
import { testDatabase } from '../test/database.ts'
import { sampleOf, type Document, type Operation, type Schema } from '../test/openapi-sample.ts'
import { importCatalogDefinition } from './catalog/registry.ts'
import { createLog } from './http/log.ts'
import { stripeAt } from './sandbox.ts'
import { createTollgate, type Tollgate } from './tollgate.ts'

// Every route of the OpenAPI document, asked by those who may not. A route that is added is asked here by itself.

const database = testDatabase()
const OPERATOR_KEY = 'the operator key of this test'
/** Of the paths' parameters: what names an organization, and objects that belong to nobody. */
const ORGANIZATION_PARAMETERS = new Set(['organization_id', 'org_id'])

type Route = { readonly method: string; readonly path: string; readonly operation: Operation }

let sandbox: Sandbox
let tollgate: Tollgate
let document: Document
const keys: Record<'reader' | 'writer' | 'stranger', string> = { reader: '', writer: '', stranger: '' }

beforeAll(async () => {
  sandbox = await startSandbox()
  tollgate = createTollgate({
    databaseUrl: database.url,
    catalog: await importCatalogDefinition('examples/episodic-memory/billing.config.ts'),
    stripe: { ...stripeAt(sandbox.url), webhookSecrets: ['whsec_of_this_test'] },
    operatorKey: OPERATOR_KEY,
    publicUrl: 'http://localhost:3000',
    processMetrics: false,
    log: createLog({ level: 'silent', secrets: [] }),
  })
  await tollgate.start()
  await ask('POST', '/api/v1/organizations', OPERATOR_KEY, { id: 'mine', name: 'Mine', email: 'a@example.com' })
  await ask('POST', '/api/v1/organizations', OPERATOR_KEY, { id: 'other', name: 'Other', email: 'b@example.com' })
  keys.reader = await createKey('mine', ['read'])
  keys.writer = await createKey('mine', ['read', 'write'])
  keys.stranger = await createKey('other', ['admin'])
  document = (await (await tollgate.fetch(new Request('http://localhost:3000/openapi.json'))).json()) as Document
})

afterAll(async () => {
  await tollgate.stop()
  await sandbox.stop()
})

it('every operation tells what a caller has to know, besides what it is for', () => {
  const operations = Object.values(document.paths).flatMap((path) => Object.values(path))
  expect(operations.length).toBeGreaterThan(150)
  const silent = operations.filter(({ summary, description }) => (description ?? '').length < 20 || description === summary)
  expect(silent.map(({ summary }) => summary)).toEqual([])
})

async function ask(
  method: string,
  path: string,
  key: string | null,
  body?: unknown,
  named: Record<string, string> = {},
): Promise<Response> {
  const headers: Record<string, string> = { 'content-type': 'application/json', ...named }
  if (key !== null) headers['authorization'] = `Bearer ${key}`
  return tollgate.fetch(
    new Request(`http://localhost:3000${path}`, { method, headers, body: body === undefined ? null : JSON.stringify(body) }),
  )
}

async function createKey(organizationId: string, scopes: string[]): Promise<string> {
  const answer = await ask('POST', `/api/v1/organizations/${organizationId}/api-keys`, OPERATOR_KEY, { name: 'test', scopes })
  return ((await answer.json()) as { key: string }).key
}

function routes(): readonly Route[] {
  return Object.entries(document.paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })),
  )
}

/** A well-formed request to a route, about the organization `mine`. */
function requestTo({ method, path, operation }: Route): { method: string; path: string; body: unknown } {
  const ofOrganization = path.startsWith('/api/v1/organizations/{id}')
  const filled = path.replace(/\{(\w+)\}/g, (_whole, name: string) =>
    ORGANIZATION_PARAMETERS.has(name) || (name === 'id' && ofOrganization) ? 'mine' : 'unknown',
  )
  const schema = operation.requestBody?.content['application/json']?.schema
  const given = {
    organization_id: 'mine',
    meter: 'episode_search',
    plan: 'pro',
    new_tier: 'pro',
    tier: 'pro',
    by: '1d',
    percent_off: 10,
    balance: 'credits',
  }
  const query = (operation.parameters ?? [])
    .filter((parameter) => parameter.in === 'query' && (parameter.name === 'organization_id' || parameter.name === 'meter'))
    .map(({ name }) => `${name}=${name === 'meter' ? given.meter : given.organization_id}`)
  return {
    method,
    path: query.length === 0 ? filled : `${filled}?${query.join('&')}`,
    body: schema === undefined ? undefined : sampleOf(document, schema, given),
  }
}

async function askAll(key: string | null, which: readonly Route[]): Promise<Record<string, number>> {
  const answers: Record<string, number> = {}
  for (const route of which) {
    const { method, path, body } = requestTo(route)
    answers[`${route.method} ${route.path}`] = (await ask(method, path, key, body)).status
  }
  return answers
}

function strays(answers: Readonly<Record<string, number>>, expected: readonly number[]): Record<string, number> {
  return Object.fromEntries(Object.entries(answers).filter(([, status]) => !expected.includes(status)))
}

const isOpen = ({ operation }: Route): boolean => operation.security?.length === 0
/** Signing up and in, for which one needs to be nobody yet. */
const isSigning = ({ path }: Route): boolean => path.startsWith('/api/v1/auth/')
/** What only asks: a GET, a check, a preview of what would be due. */
const onlyReads = ({ method, path }: Route): boolean =>
  method === 'GET' || path === '/api/v1/usage/check' || path === '/api/v1/billing/gate'
/** Whether a document of this schema has no fields but those it names. */
const isClosed = ({ $ref, anyOf, additionalProperties }: Schema): boolean => {
  if ($ref !== undefined) return isClosed(document.components.schemas[$ref.split('/').at(-1)!]!)
  return anyOf?.every(isClosed) ?? additionalProperties === false
}
const namesOrganization = (route: Route): boolean => /[?/]organization_id|\bmine\b/.test(JSON.stringify(requestTo(route)))

describe('every route', () => {
  it('is there to be asked', () => {
    expect(routes().length).toBeGreaterThan(40)
  })

  it('answers 401 to nobody, and to a wrong key; a webhook without signature is refused', async () => {
    const closed = routes().filter((route) => !isOpen(route))
    expect(strays(await askAll(null, closed), [401])).toEqual({})
    expect(strays(await askAll(`${keys.reader}x`, closed), [401])).toEqual({})
    expect(
      strays(
        await askAll(
          null,
          routes().filter((route) => isOpen(route) && !isSigning(route)),
        ),
        [400],
      ),
    ).toEqual({})
  })

  it('that changes something answers 403 to a key that may only read', async () => {
    const changing = routes().filter((route) => !isOpen(route) && !onlyReads(route))
    expect(changing.length).toBeGreaterThan(20)
    expect(strays(await askAll(keys.reader, changing), [403])).toEqual({})
  })

  it('finds another organization’s things missing, or is for operators', async () => {
    const batch = (route: Route): boolean => route.path === '/api/v1/usage/batch'
    const foreign = routes().filter((route) => !isOpen(route) && namesOrganization(route) && !batch(route))
    expect(foreign.length).toBeGreaterThan(30)
    expect(strays(await askAll(keys.stranger, foreign), [403, 404])).toEqual({})
    const items = [{ verb: 'consume', meter: 'episode_search', idempotency_key: 'x', organization_id: 'mine' }]
    const answer = await ask('POST', '/api/v1/usage/batch', keys.stranger, { items })
    expect(await answer.json()).toMatchObject({ results: [{ allowed: false, error: { code: 'not_found' } }] })
  })

  it('of an operator answers 403 to a key of an organization, whatever its scopes', async () => {
    const operators = routes().filter(({ path, method }) => {
      const name = `${method} ${path}`
      return /stripe-events|\/clock\/|\/reconcile|v1\/users/.test(name) || /^(GET|POST) \/api\/v1\/organizations$/.test(name)
    })
    expect(operators.length).toBeGreaterThan(6)
    expect(strays(await askAll(keys.stranger, operators), [403])).toEqual({})
    const snapshots = await ask('GET', '/api/v1/admin/billing', keys.stranger)
    expect(await snapshots.text()).not.toContain('mine')
  })

  it('with a write scope cannot manage keys or money', async () => {
    // Recording use is what the scope is for.
    const records = ({ path }: Route): boolean => path.startsWith('/api/v1/usage/') || path === '/api/v1/billing/usage'
    const managing = routes().filter((route) => !isOpen(route) && !onlyReads(route) && !records(route))
    expect(strays(await askAll(keys.writer, managing), [403])).toEqual({})
  })

  it('that a key may call refuses a query parameter that it does not know', async () => {
    const closed = routes().filter((route) => !isOpen(route))
    const answers: Record<string, string> = {}
    for (const route of closed) {
      const { method, path, body } = requestTo(route)
      const answer = await ask(method, `${path}${path.includes('?') ? '&' : '?'}no_such=1`, OPERATOR_KEY, body)
      answers[`${method} ${route.path}`] = `${answer.status} ${((await answer.json()) as { detail?: string }).detail ?? ''}`
    }
    const others = Object.entries(answers).filter(([, text]) => !text.startsWith('400 "no_such" is no parameter'))
    expect(others).toEqual([])
  })

  it('that a key may call refuses a field that it does not know exactly where its document says that there are no others', async () => {
    let asked = 0
    for (const route of routes().filter((one) => !isOpen(one))) {
      const schema = route.operation.requestBody?.content['application/json']?.schema
      if (schema === undefined) continue
      const { method, path, body } = requestTo(route)
      const answer = await ask(method, path, OPERATOR_KEY, { ...(body as object), no_such_field: 1 })
      const isRefused = answer.status === 400 && /no_such_field/.test(await answer.text())
      expect(isRefused, `${method} ${path}`).toBe(isClosed(schema))
      asked += 1
    }
    expect(asked).toBeGreaterThan(60)
  })

  it('takes an empty body that is said to be JSON for none', async () => {
    const taking = routes().filter((route) => !isOpen(route) && route.operation.requestBody !== undefined)
    expect(taking.length).toBeGreaterThan(30)
    for (const route of taking) {
      const { method, path } = requestTo(route)
      const answer = await ask(method, path, OPERATOR_KEY)
      expect(await answer.text(), `${method} ${path}`).not.toContain('Malformed JSON')
      expect(answer.status, `${method} ${path}`).toBeLessThan(500)
    }
  })
})

/** What a route takes in its query and at the top of its body, each with the request that has it. */
function fieldsOf(route: Route): readonly { readonly name: string; readonly ask: (value: unknown) => Promise<Response> }[] {
  const { method, path, body } = requestTo(route)
  const parameters = (route.operation.parameters ?? []).filter((parameter) => parameter.in === 'query')
  const schema = route.operation.requestBody?.content['application/json']?.schema
  const named = schema?.$ref === undefined ? schema : document.components.schemas[schema.$ref.split('/').at(-1)!]
  return [
    ...parameters.map(({ name }) => ({
      name,
      ask: (value: unknown) =>
        ask(method, `${path}${path.includes('?') ? '&' : '?'}${name}=${encodeURIComponent(String(value))}`, OPERATOR_KEY, body),
    })),
    ...Object.keys(named?.properties ?? {}).map((name) => ({
      name,
      ask: (value: unknown) => ask(method, path, OPERATOR_KEY, { ...(body as object), [name]: value }),
    })),
  ]
}

describe('every field of every route', () => {
  it.each([
    '0000-01-01T00:00:00Z',
    '0001-01-01T00:00:00+14:00',
    '9999-12-31T23:59:59-14:00',
    '99999999999999999999',
    2 ** 31,
    -1,
  ])('may be given %s, which is taken or refused', async (value) => {
    const failed: string[] = []
    let asked = 0
    for (const route of routes().filter((one) => !isOpen(one) && !isSigning(one))) {
      for (const field of fieldsOf(route)) {
        asked += 1
        const { status, body } = await field.ask(value)
        // What streams holds a connection until its reader leaves.
        await body?.cancel()
        if (status >= 500) failed.push(`${route.method} ${route.path} ${field.name}`)
      }
    }
    expect(asked).toBeGreaterThan(300)
    expect(failed).toEqual([])
  })
})

describe('an operator who names an organization', () => {
  const naming = { 'x-organization-id': 'other' }
  const MOMENT = "timestamptz '2026-03-01'"

  beforeAll(async () => {
    for (const organizationId of ['mine', 'other']) {
      await ask('POST', '/api/v1/exports', OPERATOR_KEY, {
        organization_id: organizationId,
        kind: 'invoices',
        format: 'csv',
      })
      await database.db.query(
        `insert into mails (id, organization_id, kind, recipient, subject, holds_secret, state, created_at, next_attempt_at)
         values ('mail_of_' || $1, $1, 'trial', 'a@example.com', 'x', false, 'kept', ${MOMENT}, ${MOMENT})`,
        [organizationId],
      )
      await database.db.query(
        `insert into stripe_events (event_id, organization_id, type, object_type, livemode, payload, source, stripe_created_at, received_at,
           next_attempt_at, handled_at)
         values ('evt_of_' || $1, $1, 'x', 'x', false, '{}', 'webhook', ${MOMENT}, ${MOMENT}, ${MOMENT}, ${MOMENT})`,
        [organizationId],
      )
      await database.db.query(
        `insert into use_credits (organization_id, id, span_id, grant_id, late, quantity, amount_minor, state, created_at)
         values ($1, 'ucr_of_' || $1, 'span', 'grant', false, 1, 1, 'failed', ${MOMENT})`,
        [organizationId],
      )
      await database.db.query(
        `insert into meter_events (organization_id, identifier, span_id, event_name, formula, customer_id, quantity, value, at, late, state, created_at)
         values ($1, 'report_of_' || $1, 'span', 'x', 'sum', 'cus', 1, 1, ${MOMENT}, false, 'failed', ${MOMENT})`,
        [organizationId],
      )
      await database.db.query(
        `insert into stripe_drifts (organization_id, object_type, object_id, field, found_at) values ($1, 'x', 'x', 'x', ${MOMENT})`,
        [organizationId],
      )
    }
  })

  it.each([
    ['/api/v1/exports', 'exports'],
    ['/api/v1/admin/exports', 'exports'],
    ['/api/v1/audit-log', 'entries'],
    ['/api/v1/mails', 'mails'],
    ['/api/v1/stripe-events', 'events'],
    ['/api/v1/admin/billing', 'organizations'],
    ['/api/v1/admin/workspaces', 'workspaces'],
    ['/api/v1/admin/billing/failed-credits', 'credits'],
    ['/api/v1/admin/billing/failed-reports', 'reports'],
    ['/api/v1/admin/drift', 'drifts'],
  ])('by header or query reads its %s alone', async (path, list) => {
    const namesIn = async (answer: Response): Promise<ReadonlySet<string>> => {
      const body = (await answer.json()) as Record<string, { organization_id: string }[]>
      return new Set(body[list]!.map((row) => row.organization_id))
    }
    const all = await namesIn(await ask('GET', path, OPERATOR_KEY))
    expect(all.has('mine') && all.has('other')).toBe(true)
    for (const answer of [
      await ask('GET', path, OPERATOR_KEY, undefined, naming),
      await ask('GET', `${path}?organization_id=other`, OPERATOR_KEY),
    ]) {
      expect(await namesIn(answer)).toEqual(new Set(['other']))
    }
  })

  it('by query is refused by what is of all organizations, and nothing is done', async () => {
    const ofAll = routes().filter((route) => route.path.includes('/admin/') && !namesOrganization(route))
    expect(ofAll.map(({ path }) => path)).toEqual(
      expect.arrayContaining(['/api/v1/admin/analytics/mrr', '/api/v1/admin/catalog/migrations', '/api/v1/admin/reconciliation']),
    )
    for (const route of ofAll) {
      const { method, path, body } = requestTo(route)
      const answer = await ask(method, `${path}?organization_id=mine`, OPERATOR_KEY, body)
      expect([route.path, answer.status, await answer.json()]).toMatchObject([
        route.path,
        400,
        { code: 'invalid_request', errors: [{ field: 'organization_id' }] },
      ])
    }
  })

  it('by header has its statement made, and no export of another', async () => {
    const body = { kind: 'usage_statement', format: 'csv' }
    const made = await ask('POST', '/api/v1/exports', OPERATOR_KEY, body, naming)
    expect(made.status).toBe(202)
    const { id } = (await made.json()) as { id: string }
    const read = async (organizationId: string): Promise<number> =>
      (await ask('GET', `/api/v1/exports/${id}`, OPERATOR_KEY, undefined, { 'x-organization-id': organizationId })).status
    expect(await read('other')).toBe(200)
    expect(await read('mine')).toBe(404)
  })

  it('by header exports and verifies its audit log alone', async () => {
    const file = await ask('GET', '/api/v1/audit-log/export?format=ndjson', OPERATOR_KEY, undefined, naming)
    expect(await file.text()).not.toContain('"organization_id":"mine"')
    const verified = await ask('GET', '/api/v1/audit-log/verification', OPERATOR_KEY, undefined, naming)
    expect(await verified.json()).toMatchObject({ intact: true, chains: 1 })
  })
})
