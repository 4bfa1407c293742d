import { brotliDecompressSync, gzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startSandbox, type Sandbox } from '@tollgate/stripe-sandbox'
import { testDatabase } from '../test/database.ts'
import { importCatalogDefinition } from './catalog/registry.ts'
import { createLog } from './http/log.ts'
import { stripeAt } from './sandbox.ts'
import { createTollgate, type Tollgate } from './tollgate.ts'

// EM-14: no card data is ever stored. Canaries are planted wherever a caller can put a text; then everything is searched.

const database = testDatabase()
const OPERATOR_KEY = 'the operator key of this test'
const logged: string[] = []
const answered: string[] = []

const CARD = '4000056655665556'
const SPACED = '5200 8282 8282 8210'
const DASHED = '3782-822463-10005'
const CODE = '98761'
const SECRET = 'sk_live_CanaryCanaryCanary1234'
const CANARIES = [CARD, SPACED, DASHED, '5200828282828210', '378282246310005', CODE, SECRET]

let sandbox: Sandbox
let tollgate: Tollgate
let key: string

beforeAll(async () => {
  sandbox = await startSandbox()
  tollgate = createTollgate({
    databaseUrl: database.url,
    catalog: await importCatalogDefinition('examples/episodic-memory/billing.config.ts'),
    stripe: { ...stripeAt(sandbox.url), webhookSecrets: ['whsec_of_this_test'], pushAtStart: true },
    operatorKey: OPERATOR_KEY,
    publicUrl: 'http://localhost:3000',
    processMetrics: false,
    log: createLog({ level: 'trace', secrets: [], destination: { write: (line: string) => void logged.push(line) } }),
  })
  await tollgate.start()
  const organization = { id: 'acme', name: 'Acme', email: 'a@example.com' }
  await ask('POST', '/api/v1/organizations', { key: OPERATOR_KEY, body: organization })
  const made = await ask('POST', '/api/v1/organizations/acme/api-keys', {
    key: OPERATOR_KEY,
    body: { name: 'test', scopes: ['read', 'write', 'admin'] },
  })
  key = String(made.body['key'])
})

afterAll(async () => {
  await tollgate.stop()
  await sandbox.stop()
})

type Asked = { readonly key?: string; readonly body?: unknown; readonly headers?: Record<string, string> }

async function ask(method: string, path: string, asked: Asked = {}): Promise<{ status: number; body: Record<string, unknown> }> {
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${asked.key ?? key}`, ...asked.headers }
  const isRaw = asked.body === undefined || typeof asked.body === 'string' || Buffer.isBuffer(asked.body)
  const body = (isRaw ? (asked.body ?? null) : JSON.stringify(asked.body)) as string | Buffer<ArrayBuffer> | null
  const response = await tollgate.fetch(new Request(`http://localhost:3000${path}`, { method, headers, body }))
  const text = await response.text()
  answered.push(`${JSON.stringify([...response.headers])}${text}`)
  return { status: response.status, body: text.startsWith('{') ? (JSON.parse(text) as Record<string, unknown>) : {} }
}

/** Every column of every table that holds a canary. */
async function findInDatabase(canary: string): Promise<string[]> {
  const { rows: columns } = await database.db.query<{ table: string; column: string }>(
    `select table_name as table, column_name as column from information_schema.columns where table_schema = 'public'`,
  )
  expect(columns.length).toBeGreaterThan(200)
  const found: string[] = []
  for (const { table, column } of columns) {
    const { rows } = await database.db.query(`select 1 from "${table}" where position($1 in "${column}"::text) > 0 limit 1`, [
      canary,
    ])
    if (rows.length > 0) found.push(`${table}.${column}`)
  }
  // What Stripe sent is packed.
  const { rows: pieces } = await database.db.query<{ packed: Buffer }>('select packed from stripe_event_payloads')
  if (pieces.some(({ packed }) => brotliDecompressSync(packed).includes(canary))) found.push('stripe_event_payloads')
  return found
}

const use = (changed: object): object => ({ meter: 'episode_search', idempotency_key: 'use', ...changed })

it('EM-14 card data is refused wherever a caller puts it, and nothing of it is stored, logged or answered', async () => {
  const bodies: [method: string, path: string, body: unknown][] = [
    ['POST', '/api/v1/usage/consume', use({ properties: { note: `paid with ${CARD}` } })],
    ['POST', '/api/v1/usage/consume', use({ idempotency_key: CARD })],
    ['POST', '/api/v1/usage/track', use({ properties: { [SPACED]: 1 } })],
    ['POST', '/api/v1/usage/batch', { items: [], card: DASHED }],
    ['POST', '/api/v1/usage/reserve', use({ properties: { cvc: CODE } })],
    ['POST', '/api/v1/billing/checkout', { plan: 'pro', success_url: `http://localhost:3000/?card=${CARD}` }],
    ['POST', '/api/v1/billing/subscribe', { tier: 'pro', payment_method_id: CARD }],
    ['POST', '/api/v1/billing/subscribe', { tier: 'pro', card: { number: CARD, cvc: CODE } }],
    ['POST', '/api/v1/organizations/acme/api-keys', { name: `key ${SECRET}`, scopes: ['read'] }],
    ['POST', '/api/v1/auth/sign-up', { name: CARD, email: 'eve@example.com', password: 'a long password' }],
  ]
  for (const [method, path, body] of bodies) {
    const { status, body: problem } = await ask(method, path, { body })
    expect({ path, status, code: problem['code'] }).toEqual({ path, status: 400, code: 'invalid_request' })
    expect(problem['detail']).toMatch(/holds what looks like (a card number|a detail of a card|a secret key of Stripe)/)
  }
  const named = await ask('POST', '/api/v1/organizations', { key: OPERATOR_KEY, body: { name: SPACED, email: 'b@example.com' } })
  expect(named).toMatchObject({ status: 400, body: { field: 'name' } })
  for (const path of [
    `/api/v1/audit-log?actor=${CARD}`,
    `/api/v1/organizations/${CARD}`,
    `/api/v1/audit-log?actor=${encodeURIComponent(SPACED)}`,
  ]) {
    expect((await ask('GET', path)).status, path).toBe(400)
  }
  expect((await ask('GET', '/api/v1/balances', { headers: { 'user-agent': `agent ${CARD}` } })).status).toBe(400)
  expect((await ask('GET', `/nothing/${CARD}`)).status).toBe(404)
  await ask('GET', '/api/v1/balances', { headers: { 'x-request-id': CARD } })
  const items = [
    { verb: 'track', ...use({ properties: { card: DASHED } }) },
    { verb: 'consume', ...use({ [SPACED]: CODE }) },
    { verb: 'reserve', ...use({ meter: SECRET }) },
  ]
  const refused = { allowed: false, error: { code: 'invalid_request' } }
  const batch = await ask('POST', '/api/v1/usage/batch', { body: { items } })
  expect(batch).toMatchObject({ status: 200, body: { results: [refused, refused, refused] } })
  const line = JSON.stringify({ verb: 'track', ...use({ properties: { card: CARD } }) })
  const lines = await ask('POST', '/api/v1/usage/batch', { body: line, headers: { 'content-type': 'application/x-ndjson' } })
  expect(lines.body).toMatchObject({ results: [refused] })
  const event = { specversion: '1.0', id: SPACED, source: '/here', type: 'episode_search', note: SECRET }
  const type = 'application/cloudevents-batch+json'
  const events = await ask('POST', '/api/v1/usage/track', { body: [event], headers: { 'content-type': type } })
  expect(events.body).toMatchObject({ results: [refused] })

  const packed = gzipSync(JSON.stringify(use({ properties: { card: CARD } })))
  const grant = { organization_id: 'acme', balance: 'credits', amount: 1, reason: `card ${SPACED}` }
  const headers: [headers: Record<string, string>, status: number][] = [
    [{ 'content-type': 'application/vnd.x+json' }, 400],
    [{ 'content-type': 'application/problem+json; charset=utf-8' }, 400],
    [{ 'stripe-signature': 'x' }, 400],
    [{ 'content-encoding': 'identity' }, 400],
    [{ 'content-encoding': 'gzip' }, 400],
    [{ 'content-encoding': 'foo' }, 415],
  ]
  for (const [sent, status] of headers) {
    const held = await ask('POST', '/api/v1/usage/reservations', { body: use({ properties: { card: CARD } }), headers: sent })
    expect(held.status, JSON.stringify(sent)).toBe(status)
    const given = await ask('POST', '/api/v1/grants', { key: OPERATOR_KEY, body: grant, headers: sent })
    expect(given.status, JSON.stringify(sent)).toBe(status)
  }
  const inside = { organizationId: 'acme', meter: 'episode_search', idempotencyKey: 'inside', properties: { card: CARD } }
  await expect(tollgate.api.usage.track(inside)).rejects.toMatchObject({ code: 'invalid_request' })

  const unpacked = await ask('POST', '/api/v1/usage/consume', { body: packed, headers: { 'content-encoding': 'gzip' } })
  expect(unpacked).toMatchObject({ status: 400, body: { field: 'properties.card' } })
  const packedGrant = gzipSync(JSON.stringify(grant))
  const sent = { key: OPERATOR_KEY, body: packedGrant, headers: { 'content-encoding': 'gzip' } }
  expect(await ask('POST', '/api/v1/grants', sent)).toMatchObject({ status: 400, body: { field: 'reason' } })

  // The loop itself: a card is entered at Stripe's page, here the sandbox's; brand and last digits are all that comes back.
  const bought = await ask('POST', '/api/v1/billing/subscribe', { body: { tier: 'pro', payment_method_id: 'pm_card_visa' } })
  expect(bought.status).toBe(200)
  const methods = await database.db.query('select card_brand, card_last4 from stripe_payment_methods')
  expect(methods.rows).toEqual([{ card_brand: 'visa', card_last4: '4242' }])
  await ask('POST', '/api/v1/usage/consume', { body: use({ properties: { note: 'card ends in 5556' } }) })

  // The search itself finds what is there.
  expect(await findInDatabase('card ends in 5556')).toEqual(expect.arrayContaining(['usage_events.properties']))
  for (const canary of CANARIES) {
    expect(await findInDatabase(canary), canary).toEqual([])
    expect(
      logged.filter((entry) => entry.includes(canary)),
      canary,
    ).toEqual([])
    expect(
      answered.filter((answer) => answer.includes(canary)),
      canary,
    ).toEqual([])
  }
  expect(logged.length).toBeGreaterThan(0)
  expect(answered.length).toBeGreaterThan(15)
})
