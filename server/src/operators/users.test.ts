import { beforeAll, expect, test } from 'vitest'
import { testIdentity, OPERATOR_KEY } from '../../test/identity.ts'

const identity = testIdentity()
const PATH = '/api/billing/admin/users'

type Users = {
  readonly users: readonly {
    email: string
    organizations: readonly { role: string; plan: string; usage: Record<string, number> }[]
  }[]
  readonly total: number
  readonly next_cursor: string | null
}

const read = async (query = ''): Promise<Users> =>
  (await identity.as(OPERATOR_KEY, 'GET', `${PATH}${query}`)).body as unknown as Users

beforeAll(async () => {
  await identity.signUp('ada@example.com')
  const { browser } = await identity.signUp('grace@example.com')
  for (const key of ['one', 'two']) {
    await browser.call('POST', '/api/v1/usage/consume', { meter: 'search', quantity: 1, idempotency_key: key })
  }
})

test('CB-7 every user is listed with usage, newest first, page by page', async () => {
  const all = await read()
  expect(all).toMatchObject({
    users: [
      { email: 'grace@example.com', organizations: [{ role: 'owner', plan: 'free', usage: { search: 2 } }] },
      { email: 'ada@example.com', organizations: [{ role: 'owner', usage: {} }] },
    ],
    total: 2,
    next_cursor: null,
  })
  const first = await read('?limit=1&sort=created')
  const second = await read(`?limit=1&sort=created&cursor=${first.next_cursor}`)
  expect([...first.users, ...second.users].map(({ email }) => email)).toEqual(['ada@example.com', 'grace@example.com'])
  expect((await read('?search=GRACE')).users).toHaveLength(1)
  expect(await read('?search=nobody')).toMatchObject({ users: [], total: 0 })
})

test('CB-7 for operators only', async () => {
  const { browser } = await identity.signUp('curious@example.com')
  expect((await browser.call('GET', PATH)).status).toBe(403)
  expect((await identity.as(null, 'GET', PATH)).status).toBe(401)
})
