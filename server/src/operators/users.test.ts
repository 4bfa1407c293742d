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

test('CB-7 what an organization on a test clock used is that of its own month', async () => {
  const { db } = identity.database
  const { organizationId } = await identity.signUp('ahead@example.com')
  await db.query(`update organizations set test_clock_now = '2030-05-20T00:00:00Z' where id = $1`, [organizationId])
  // The last hour of April, the first of May, and one that is later than its clock stands.
  await db.query(
    `insert into usage_hourly (organization_id, meter, hour, events, quantity, drawn, overage)
     select $1, 'search', hour::timestamptz, 1, quantity * 1000000, 0, 0
     from (values ('2030-04-30T23:00:00Z', 1), ('2030-05-01T00:00:00Z', 2), ('2030-06-01T00:00:00Z', 4)) used (hour, quantity)`,
    [organizationId],
  )
  expect((await read('?search=ahead')).users).toMatchObject([{ organizations: [{ usage: { search: 2 } }] }])
})

test('CB-7 for operators only', async () => {
  const { browser } = await identity.signUp('curious@example.com')
  expect((await browser.call('GET', PATH)).status).toBe(403)
  expect((await identity.as(null, 'GET', PATH)).status).toBe(401)
})
