import { afterEach, expect, test } from 'vitest'
import { makeRoom, refuseWrites } from '../../test/full-disk.ts'
import { OPERATOR_KEY, testIdentity } from '../../test/identity.ts'

const identity = testIdentity()
const { db } = identity.database

afterEach(() => makeRoom(db))

async function customer() {
  const made = await identity.as(OPERATOR_KEY, 'POST', '/api/v1/organizations', { name: 'Full', email: 'full@example.com' })
  const path = `/api/v1/organizations/${String(made.body['id'])}`
  const given = { name: 'app', scopes: ['read', 'write', 'admin'] }
  const key = String((await identity.as(OPERATOR_KEY, 'POST', `${path}/api-keys`, given)).body['key'])
  return {
    consume: (of: string) =>
      identity.as(key, 'POST', '/api/v1/usage/consume', { meter: 'search', quantity: 1, idempotency_key: of }),
    addWorkspace: () => identity.as(key, 'POST', `${path}/workspaces`, { name: 'One' }),
  }
}

test('a full disk is a database that is away, and when there is room again what was asked for is done once', async () => {
  const { consume, addWorkspace } = await customer()
  expect((await consume('before')).body).toMatchObject({ allowed: true, quota_remaining: 2 })
  for (const [table, ask, status] of [
    ['workspaces', addWorkspace, 201],
    ['grants', () => consume('full'), 200],
  ] as const) {
    await refuseWrites(db, table)
    const refused = await ask()
    expect([refused.status, refused.headers.get('retry-after'), refused.body['code'], refused.body['detail']]).toEqual([
      503,
      '1',
      'database_unavailable',
      'PostgreSQL has no room left on its disk; try again once there is some.',
    ])
    await makeRoom(db)
    expect((await ask()).status).toBe(status)
  }
  expect((await consume('full')).body).toMatchObject({ allowed: true, quota_remaining: 1 })
})

test.each(['53200', '53400', '57014'])('a statement that PostgreSQL ends as too much (%s) asks for less', async (sqlstate) => {
  const { addWorkspace } = await customer()
  await refuseWrites(db, 'workspaces', sqlstate)
  const { status, body } = await addWorkspace()
  expect([status, body['code']]).toEqual([503, 'overloaded'])
})
