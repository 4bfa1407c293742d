import { describe, expect, it } from 'vitest'
import type { Document } from '../../test/openapi-sample.ts'
import { OPERATOR_KEY, testIdentity } from '../../test/identity.ts'
import { opensToCustomers } from '../auth/customer-tokens.ts'
import { ManualClock } from '../lib/clock.ts'
import { HOUR_MS, MINUTE_MS } from '../lib/period.ts'

const clock = new ManualClock(new Date('2026-03-01T00:00:00Z'))
const identity = testIdentity({ clock })

let made = 0
/** A new organization with an admin key. */
async function organization(scopes: readonly string[] = ['read', 'write', 'admin']) {
  made += 1
  const id = `org_${made}`
  await identity.as(OPERATOR_KEY, 'POST', '/api/v1/organizations', { id, name: id, email: 'a@example.com' })
  const path = `/api/v1/organizations/${id}/api-keys`
  const { body } = await identity.as(OPERATOR_KEY, 'POST', path, { name: 'application', scopes })
  return { id, path, key: String(body['key']), keyId: String(body['id']) }
}

const status = async (key: string, path = '/api/v1/usage') => (await identity.as(key, 'GET', path)).status

describe('a rotated key', () => {
  it('works on beside the new one for a day, and then no more', async () => {
    const { path, key, keyId } = await organization(['read'])
    expect(await status(key)).toBe(200)
    const rotated = await identity.as(OPERATOR_KEY, 'POST', `${path}/${keyId}/rotate`)
    expect(rotated).toMatchObject({ status: 201, body: { name: 'application', scopes: ['read'], expires_at: null } })
    const fresh = String(rotated.body['key'])
    expect([await status(key), await status(fresh)]).toEqual([200, 200])
    clock.advance(24 * HOUR_MS)
    expect([await status(key), await status(fresh)]).toEqual([401, 200])
    expect((await identity.as(OPERATOR_KEY, 'POST', `${path}/${keyId}/rotate`)).status).toBe(404)
  })

  it('ends at once without an overlap, also where it is kept as verified', async () => {
    const { path, key, keyId } = await organization(['read'])
    expect(await status(key)).toBe(200)
    await identity.as(OPERATOR_KEY, 'POST', `${path}/${keyId}/rotate`, { overlap_hours: 0 })
    await expect.poll(() => status(key), { interval: 10 }).toBe(401)
  })

  it('never lives longer than it would have, and passes its lifetime on', async () => {
    const { id, path } = await organization()
    clock.advance(1)
    const expires = new Date(clock.now().getTime() + HOUR_MS).toISOString()
    const short = await identity.as(OPERATOR_KEY, 'POST', path, { name: 'short', scopes: ['read'], expires_at: expires })
    clock.advance(30 * MINUTE_MS)
    const rotated = await identity.as(OPERATOR_KEY, 'POST', `${path}/${String(short.body['id'])}/rotate`, { overlap_hours: 48 })
    expect(rotated.body['expires_at']).toBe(new Date(clock.now().getTime() + HOUR_MS).toISOString())
    const keys = await identity.as(OPERATOR_KEY, 'GET', path)
    expect(keys.body).toMatchObject({ api_keys: [{}, { name: 'short', expires_at: expires }, { name: 'short' }] })
    const log = await identity.as(OPERATOR_KEY, 'GET', `/api/v1/audit-log?organization_id=${id}&limit=1`)
    expect(log.body).toMatchObject({ entries: [{ action: 'api_key.rotated', after: { replaced_by: rotated.body['id'] } }] })
  })
})

describe('a key that is rotated again during its overlap', () => {
  const rotate = (path: string, keyId: string, overlap = 24) =>
    identity.as(OPERATOR_KEY, 'POST', `${path}/${keyId}/rotate`, { overlap_hours: overlap })

  it('is replaced by one that lives on, as an answer that was lost is asked for again', async () => {
    const { path, key, keyId } = await organization(['read'])
    await rotate(path, keyId)
    clock.advance(1)
    const again = await rotate(path, keyId)
    expect(again).toMatchObject({ status: 201, body: { expires_at: null } })
    clock.advance(24 * HOUR_MS)
    expect([await status(key), await status(String(again.body['key']))]).toEqual([401, 200])
  })

  it('passes its own lifetime on, and ends at the earlier of the overlaps', async () => {
    const { path } = await organization()
    const expires = new Date(clock.now().getTime() + 100 * HOUR_MS).toISOString()
    const made = await identity.as(OPERATOR_KEY, 'POST', path, { name: 'long', scopes: ['read'], expires_at: expires })
    const old = { id: String(made.body['id']), key: String(made.body['key']) }
    await rotate(path, old.id, 2)
    clock.advance(HOUR_MS)
    const again = await rotate(path, old.id)
    expect(again.body['expires_at']).toBe(new Date(clock.now().getTime() + 100 * HOUR_MS).toISOString())
    clock.advance(HOUR_MS)
    expect(await status(old.key)).toBe(401)
  })
})

describe('a customer token', () => {
  it('opens the billing pages of its organization, for at most an hour', async () => {
    const { id, key } = await organization()
    const path = `/api/v1/organizations/${id}/customer-tokens`
    expect((await identity.as(key, 'POST', path, { expires_in_seconds: 3_601 })).status).toBe(400)
    const { body } = await identity.as(key, 'POST', path, { expires_in_seconds: 3_600 })
    const token = String(body['token'])
    const subscription = await identity.as(token, 'GET', '/api/billing/subscription')
    expect(subscription).toMatchObject({ status: 200, body: { tier: 'free' } })
    expect(await status(token, '/api/v1/usage')).toBe(200)
    expect(await identity.as(token, 'GET', '/api/v1/billing/config')).toMatchObject({
      status: 200,
      body: { stripe_enabled: false, publishable_key: null, environment: null },
    })
    expect((await identity.as(token, 'GET', '/api/v1/auth/me')).status).toBe(403)
    // Stripe is not configured here: the answer says that the caller was let in.
    expect((await identity.as(token, 'POST', '/api/v1/billing/portal', {})).status).toBe(503)
    clock.advance(HOUR_MS)
    expect(await status(token)).toBe(401)
  })

  it('opens nothing else: no keys, no members, no use, no other organization', async () => {
    const { id, key } = await organization()
    const other = await organization()
    const token = String((await identity.as(key, 'POST', `/api/v1/organizations/${id}/customer-tokens`)).body['token'])
    const refused = [
      await identity.as(token, 'GET', `/api/v1/organizations/${id}/api-keys`),
      await identity.as(token, 'POST', `/api/v1/organizations/${id}/customer-tokens`),
      await identity.as(token, 'GET', '/api/v1/audit-log'),
      await identity.as(token, 'GET', '/api/v1/admin/billing'),
      await identity.as(token, 'GET', '/api/v1/billing/admin/invoices'),
      await identity.as(token, 'POST', '/api/v1/usage/consume', { meter: 'search', quantity: 1, idempotency_key: 'x' }),
    ]
    expect(refused.map((answer) => answer.status)).toEqual(refused.map(() => 403))
    expect((await identity.as(token, 'GET', `/api/v1/billing/subscription?organization_id=${other.id}`)).status).toBe(404)
  })

  it('is shown once, and ends when it is revoked', async () => {
    const { id, key } = await organization()
    const path = `/api/v1/organizations/${id}/customer-tokens`
    const { body } = await identity.as(key, 'POST', path)
    const token = String(body['token'])
    expect(JSON.stringify((await identity.as(key, 'GET', path)).body)).not.toContain('tgc_')
    const { rows } = await identity.database.db.query('select * from customer_tokens')
    expect(JSON.stringify(rows)).not.toContain(token)
    expect(await status(token)).toBe(200)
    expect((await identity.as(key, 'DELETE', `${path}/${String(body['id'])}`)).status).toBe(204)
    expect(await status(token)).toBe(401)
    expect((await identity.as(key, 'DELETE', `${path}/${String(body['id'])}`)).status).toBe(404)
  })

  it('opens no route of the document that is not about the customer’s own bills and use', async () => {
    const document = (await identity.as(null, 'GET', '/openapi.json')).body as unknown as Document
    const opened = Object.entries(document.paths).flatMap(([path, operations]) =>
      Object.keys(operations).flatMap((method) => {
        const name = `${method.toUpperCase()} ${path}`
        return opensToCustomers(method.toUpperCase(), path.replace(/\{\w+\}/g, 'one')) ? [name] : []
      }),
    )
    const expected = [
      'GET /api/v1/billing/invoices',
      'GET /api/v1/entitlements/{feature}',
      'POST /api/v1/billing/checkout',
      'POST /api/v1/billing/cancel/preview',
      'PUT /api/v1/billing/details',
    ]
    expect(opened).toEqual(expect.arrayContaining(expected))
    const known =
      /^(GET \/api\/v1\/(billing\/[a-z-]+|usage|usage\/(report|events|stream)|balances|grants|entitlements.*)|(POST|PUT|DELETE) \/api\/v1\/billing\/.+)$/
    const strays = opened.filter(
      (name) => !known.test(name) || /admin|discounts|customers|subscriptions|status|webhook/.test(name),
    )
    expect(strays).toEqual([])
  })
})

describe('MR-4 workspaces', () => {
  it('are listed with the billing status of their organization: all for operators, their own for admins', async () => {
    const [mine, other] = [await organization(), await organization()]
    for (const { id, key } of [mine, other])
      await identity.as(key, 'POST', `/api/v1/organizations/${id}/workspaces`, { name: id })
    await identity.as(OPERATOR_KEY, 'PATCH', `/api/v1/admin/billing/${mine.id}`, { billing_status: 'past_due', reason: 'test' })
    const own = await identity.as(mine.key, 'GET', '/api/admin/workspaces')
    expect(own.body).toEqual({
      workspaces: [
        expect.objectContaining({ name: mine.id, organization_id: mine.id, billing_status: 'past_due', plan: 'free' }),
      ],
      has_more: false,
    })
    const all = (await identity.as(OPERATOR_KEY, 'GET', '/api/v1/admin/workspaces')).body['workspaces'] as { name: string }[]
    expect(all.map(({ name }) => name)).toEqual(expect.arrayContaining([mine.id, other.id]))
    const [first] = all as unknown as { id: string }[]
    const page = await identity.as(OPERATOR_KEY, 'GET', '/api/v1/admin/workspaces?limit=1')
    expect(page.body).toMatchObject({ workspaces: [{ id: first!.id }], has_more: true })
    const rest = await identity.as(OPERATOR_KEY, 'GET', `/api/v1/admin/workspaces?starting_after=${first!.id}`)
    expect(JSON.stringify(rest.body)).not.toContain(`"${first!.id}"`)
    const foreign = await identity.as(mine.key, 'GET', `/api/v1/admin/workspaces?organization_id=${other.id}`)
    expect(foreign.status).toBe(404)
    const { key: reader } = await organization(['read', 'write'])
    expect((await identity.as(reader, 'GET', '/api/v1/admin/workspaces')).status).toBe(403)
  })

  it('of an organization that has made none is the organization itself: nobody is missing, page by page', async () => {
    const { id, key } = await organization()
    const own = async () => (await identity.as(key, 'GET', '/api/v1/admin/workspaces')).body['workspaces']
    const itself = expect.objectContaining({ id, organization_id: id, billing_status: 'none', may_use: true }) as unknown
    expect(await own()).toEqual([itself])
    const organizations = await identity.database.db.query<{ id: string }>('select id from organizations')
    const seen = new Set<string>()
    for (let after = ''; ;) {
      const page = await identity.as(OPERATOR_KEY, 'GET', `/api/v1/admin/workspaces?limit=2&starting_after=${after}`)
      const rows = page.body['workspaces'] as { id: string; organization_id: string }[]
      for (const row of rows) seen.add(row.organization_id)
      if (page.body['has_more'] !== true) break
      after = rows.at(-1)!.id
    }
    expect([...seen].sort()).toEqual(organizations.rows.map((row) => row.id).sort())
    const made = await identity.as(key, 'POST', `/api/v1/organizations/${id}/workspaces`, { name: 'Research' })
    expect(await own()).toEqual([expect.objectContaining({ id: made.body['id'], name: 'Research', organization_id: id })])
  })
})
