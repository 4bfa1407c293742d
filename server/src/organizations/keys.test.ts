import { describe, expect, it } from 'vitest'
import { OPERATOR_KEY, testIdentity, type Answer } from '../../test/identity.ts'
import { readMigrations } from '../db/migrate.ts'
import { ManualClock } from '../lib/clock.ts'
import { HOUR_MS } from '../lib/period.ts'

// An answer that is lost, as where the server is killed between its commit and its answer, is one that these tests do not look at.

const clock = new ManualClock(new Date('2026-03-01T00:00:00Z'))
const identity = testIdentity({ clock })

let made = 0
/** The path of a new organization's keys. */
async function organization(): Promise<string> {
  const id = `org_${(made += 1)}`
  await identity.as(OPERATOR_KEY, 'POST', '/api/v1/organizations', { id, name: id, email: 'a@example.com' })
  return `/api/v1/organizations/${id}/api-keys`
}

const APPLICATION = { name: 'application', scopes: ['read'] }
const ask = (path: string, body: object, requestKey: string): Promise<Answer> =>
  identity.as(OPERATOR_KEY, 'POST', path, body, { 'idempotency-key': requestKey })
const keysOf = async (path: string) =>
  (await identity.as(OPERATOR_KEY, 'GET', path)).body['api_keys'] as Record<string, string | null>[]
const status = async ({ body }: Answer): Promise<number> =>
  (await identity.as(String(body['key']), 'GET', '/api/v1/usage')).status

describe('a key that is asked for again under its Idempotency-Key, as its answer was lost', () => {
  it('is the same key with a secret that works, and the lost one is worth nothing', async () => {
    const path = await organization()
    const lost = await ask(path, APPLICATION, 'one')
    const again = await ask(path, APPLICATION, 'one')
    expect(again).toMatchObject({ status: 201, body: { ...APPLICATION, id: lost.body['id'] } })
    expect([await status(lost), await status(again)]).toEqual([401, 200])
    expect(await keysOf(path)).toMatchObject([{ id: again.body['id'], display_prefix: again.body['display_prefix'] }])
    const log = await identity.as(OPERATOR_KEY, 'GET', `/api/v1/audit-log?organization_id=org_${made}&limit=2`)
    expect(log.body).toMatchObject({
      entries: [{ action: 'api_key.shown_again', target: again.body['id'] }, { action: 'api_key.created' }],
    })
  })

  it('is the same key when the request means the same: its scopes in another order, its end in another zone', async () => {
    const path = await organization()
    const body = { name: 'application', scopes: ['read', 'write'], expires_at: '2026-04-01T00:00:00Z' }
    const first = await ask(path, body, 'spelled')
    const same = { ...body, scopes: ['write', 'read', 'read'], expires_at: '2026-04-01T02:00:00+02:00' }
    expect(await ask(path, same, 'spelled')).toMatchObject({ status: 201, body: { id: first.body['id'] } })
    const endless = await ask(path, APPLICATION, 'endless')
    const said = { ...APPLICATION, expires_at: null }
    expect(await ask(path, said, 'endless')).toMatchObject({ status: 201, body: { id: endless.body['id'] } })
  })

  it('is one key when it is asked for twice at once', async () => {
    const path = await organization()
    const answers = await Promise.all([1, 2, 3].map(() => ask(path, APPLICATION, 'crowd')))
    expect(answers.map((answer) => answer.status)).toEqual([201, 201, 201])
    expect(await keysOf(path)).toHaveLength(1)
    expect((await Promise.all(answers.map(status))).filter((one) => one === 200)).toHaveLength(1)
  })

  it('stays as it is once somebody has used it, or it has ended', async () => {
    const path = await organization()
    const arrived = await ask(path, APPLICATION, 'used')
    expect(await keysOf(path)).toMatchObject([{ first_used_at: null }])
    expect(await status(arrived)).toBe(200)
    expect(await keysOf(path)).toMatchObject([{ first_used_at: clock.now().toISOString() }])
    const refused = { status: 409, body: { code: 'conflict', key_id: arrived.body['id'] } }
    expect(await ask(path, APPLICATION, 'used')).toMatchObject(refused)
    expect(await status(arrived)).toBe(200)
    const unused = await ask(path, APPLICATION, 'revoked')
    await identity.as(OPERATOR_KEY, 'DELETE', `${path}/${String(unused.body['id'])}`)
    const ended = await ask(path, APPLICATION, 'revoked')
    expect(ended).toMatchObject({ status: 409, body: { key_id: unused.body['id'] } })
    // What has ended cannot be rotated.
    expect(ended.body['detail']).not.toContain('rotate')
  })

  it('is not another key, nor that of another organization', async () => {
    const path = await organization()
    await ask(path, APPLICATION, 'named')
    const other = { ...APPLICATION, scopes: ['read', 'admin'] }
    expect(await ask(path, other, 'named')).toMatchObject({
      status: 409,
      body: { code: 'idempotency_conflict', field: 'scopes' },
    })
    expect(await ask(await organization(), other, 'named')).toMatchObject({ status: 201 })
  })
})

it('from before it was written down whether keys are used, a key counts as used since it was made', async () => {
  const path = await organization()
  const { body: older } = await identity.as(OPERATOR_KEY, 'POST', path, APPLICATION)
  await ask(path, APPLICATION, 'of today')
  await identity.database.db.query(readMigrations().find(({ name }) => name.startsWith('0297_'))!.sql)
  const firstUses = (await keysOf(path)).map((key) => [key['id'], key['first_used_at']])
  expect(Object.fromEntries(firstUses)).toMatchObject({ [String(older['id'])]: older['created_at'] })
  expect(firstUses.filter(([, firstUsedAt]) => firstUsedAt === null)).toHaveLength(1)
})

describe('a rotation that is asked for again under its Idempotency-Key', () => {
  it('makes one key, and keeps the overlap that it gave first', async () => {
    const path = await organization()
    const old = await ask(path, APPLICATION, 'old')
    const rotate = (overlap: number) => ask(`${path}/${String(old.body['id'])}/rotate`, { overlap_hours: overlap }, 'rotation')
    const lost = await rotate(2)
    clock.advance(HOUR_MS)
    const again = await rotate(2)
    expect(again).toMatchObject({ status: 201, body: { id: lost.body['id'] } })
    expect([await status(old), await status(lost), await status(again)]).toEqual([200, 401, 200])
    expect(await keysOf(path)).toHaveLength(2)
    clock.advance(HOUR_MS)
    expect([await status(old), await status(again)]).toEqual([401, 200])
    expect(await rotate(3)).toMatchObject({ status: 409, body: { code: 'idempotency_conflict', field: 'overlap_hours' } })
  })

  it('answers the new key also where the old one has ended at once', async () => {
    const path = await organization()
    const old = await ask(path, APPLICATION, 'old')
    const rotate = () => ask(`${path}/${String(old.body['id'])}/rotate`, { overlap_hours: 0 }, 'rotation')
    const lost = await rotate()
    const again = await rotate()
    expect([await status(old), await status(lost), await status(again)]).toEqual([401, 401, 200])
  })
})
