import { beforeAll, describe, expect, test } from 'vitest'
import { testBilling } from '../../test/billing.ts'
import { seedCustomers } from '../../test/seed-customers.ts'

const billing = testBilling({ webhooks: false })

type Page = { readonly total: number; readonly total_capped: boolean; readonly next_cursor: string | null }
type Organizations = Page & { readonly organizations: readonly { id: string; created_at: string; name: string }[] }

const read = async <Body>(path: string): Promise<Body> => {
  const answer = await billing.call('operator', 'GET', `/api/v1/admin/${path}`)
  expect(answer.status, JSON.stringify(answer.body)).toBe(200)
  return answer.body as Body
}
const find = async (query: string) =>
  (await read<Organizations>(`organizations?limit=500&${query}`)).organizations.map(({ id }) => id)

beforeAll(async () => {
  const { version } = billing.context.catalogs.current
  await seedCustomers(billing.database.db, { organizations: 1_200, invoicesEach: 3, catalogVersion: version })
  await billing.createOrganization('Percent_100%')
  await billing.createOrganization('given')
  await billing.call('operator', 'PATCH', '/api/v1/admin/billing/given', { plan: 'pro', reason: 'a partner' })
})

describe('organizations', () => {
  test('are found by the beginning of id, name, e-mail, words of them, and by Stripe’s ids', async () => {
    expect(await find('search=seed_00007')).toEqual(['seed_00007'])
    expect(await find('search=SEED_00007')).toEqual(['seed_00007'])
    expect(await find('search=cus_seed_00012')).toEqual(['seed_00012'])
    expect(await find('search=owner-31%40')).toEqual(['seed_00031'])
    expect(await find('search=customer%2077')).toEqual(expect.arrayContaining(['seed_00077', 'seed_00770']))
    for (const id of ['sub_seed_00042', 'in_seed_00042_1', 'ch_seed_00042_1'])
      expect(await find(`search=${id}`)).toEqual(['seed_00042'])
    expect(await find('search=nobody')).toEqual([])
  })

  test('are searched for text as it is: % and _ stand for themselves', async () => {
    expect(await find('search=Percent_100%25')).toEqual(['Percent_100%'])
    expect(await find('search=%25')).toEqual([])
    expect(await find('search=se_d')).toEqual([])
    expect(await find(`search=${encodeURIComponent("' | x:* & \\")}`)).toEqual([])
  })

  test('are narrowed by plan, status, currency, time, what is owed and what is overridden', async () => {
    const { db } = billing.database
    const count = async (sql: string) =>
      (await db.query<{ count: number }>(`select count(*)::int as count from ${sql}`)).rows[0]!.count
    const total = async (query: string) => (await read<Organizations>(`organizations?limit=1&${query}`)).total
    expect(await total('status=past_due')).toBe(await count(`accounts where subscription_status = 'past_due'`))
    expect(await total('status=none')).toBe(await count(`accounts where subscription_status is null`))
    expect(await total('plan=starter&status=active')).toBe(
      await count(`accounts where plan_key = 'starter' and subscription_status = 'active'`),
    )
    expect(await total('currency=eur')).toBe(await count(`stripe_customers where currency = 'eur'`))
    const owing = await count(`accounts where payment_failed_at is not null`)
    expect(await total('delinquent=true')).toBe(owing)
    await db.query(`update accounts set left_owing_since = now() where organization_id = 'given'`)
    expect(await total('delinquent=true')).toBe(owing + 1)
    expect(await find('delinquent=true&has_override=true')).toEqual(['given'])
    expect(await find('delinquent=false&has_override=true')).toEqual([])
    expect(await find('has_override=true')).toEqual(['given'])
    expect(await find('has_override=true&plan=free')).toEqual([])
    expect(await total('created_from=2025-01-02&created_to=2025-01-02T06:00:00Z')).toBe(
      await count(`organizations where created_at >= '2025-01-02' and created_at < '2025-01-02 06:00'`),
    )
  })

  test.each([
    ['organizations?status=bogus', 'past_due'],
    ['organizations?plan=bogus', 'starter'],
    ['organizations?currency=Euro', 'three small letters'],
    ['billing/subscriptions?status=bogus', 'past_due'],
    ['billing/subscriptions?plan=bogus', 'starter'],
    ['billing/recent-charges?status=bogus', 'succeeded'],
  ])('are not narrowed by a value that there is not: %s', async (path, known) => {
    const { status, body } = await billing.call('operator', 'GET', `/api/v1/admin/${path}`)
    expect(status).toBe(400)
    expect(JSON.stringify(body)).toContain(known)
  })

  test('are counted exactly where that costs little, and up to a bound where it would not', async () => {
    expect(await read<Organizations>('organizations?limit=1')).toMatchObject({ total: 1_202, total_capped: false })
    const many = await read<Organizations>('organizations?limit=1&has_override=false&created_from=2025-01-01')
    expect(many).toMatchObject({ total: 250, total_capped: true })
  })

  test.each(['created', '-created', 'name', '-name'])(
    'by %s, page by page, come each once, also when others are added',
    async (sort) => {
      const seen: string[] = []
      let cursor: string | null = null
      for (let page = 0; ; page += 1) {
        const path: string = `organizations?limit=250&sort=${sort}${cursor === null ? '' : `&cursor=${cursor}`}`
        const { organizations, next_cursor: next } = await read<Organizations>(path)
        seen.push(...organizations.map(({ id }) => id))
        if (page === 0) await billing.createOrganization(`added_meanwhile_${sort}`)
        if (next === null) break
        cursor = next
      }
      const known = seen.filter((id) => !id.startsWith('added_meanwhile'))
      expect(known.length).toBe(1_202)
      expect(new Set(seen).size).toBe(seen.length)
      const column = sort.endsWith('name') ? 'lower(name)' : 'created_at'
      const direction = sort.startsWith('-') ? 'desc' : 'asc'
      const { rows } = await billing.database.db.query<{ id: string }>(
        `select id from organizations where id not like 'added%' order by ${column} ${direction}, id ${direction}`,
      )
      expect(known).toEqual(rows.map(({ id }) => id))
    },
  )

  test('refuse a cursor of another order, and what is none', async () => {
    const { next_cursor: cursor } = await read<Organizations>('organizations?limit=1&sort=name')
    const madeUp = [
      ['-created', 'abc', 'x'],
      ['-created', '2026-02-31 00:00:00+00', 'x'],
      ['-created', '2026-02-01 00:00:00+00', 'x\0'],
      ['-created', '2026-02-01 00:00:00+00', '\ud800'],
    ].map((parts) => `cursor=${Buffer.from(JSON.stringify(parts)).toString('base64url')}`)
    for (const wrong of [`cursor=${cursor}`, 'cursor=nonsense', 'cursor=W10', ...madeUp]) {
      const answer = await billing.call('operator', 'GET', `/api/v1/admin/organizations?${wrong}`)
      expect(answer).toMatchObject({ status: 400, body: { code: 'invalid_request', field: 'cursor' } })
    }
  })
})

describe('a search', () => {
  const named = {
    covid: 'Clinic Covid-19 Berlin',
    always: 'Open 24/7',
    snake: 'The snake_case guild',
    cpp: 'Learn C++ foo_bar now',
    istanbul: 'İstanbul GmbH',
    quoted: "O'Brien \\ Sons",
  }
  const found = (text: string) => find(`search=${encodeURIComponent(text)}`)

  beforeAll(async () => {
    await billing.database.db.query(
      `insert into organizations (id, name, email, created_at)
       select 'named_' || key, value, 'a@example.com', '2025-01-01' from jsonb_each_text($1)`,
      [named],
    )
  })

  test.each([
    ['Covid-19', 'covid'],
    ['berlin covid', 'covid'],
    ['24/7', 'always'],
    ['snake_case', 'snake'],
    ['learn c++', 'cpp'],
    ['foo_b', 'cpp'],
    ['İstanbul GmbH', 'istanbul'],
    ["O'Brien", 'quoted'],
    ['\\ sons', 'quoted'],
  ])('for words as PostgreSQL splits them finds the name that holds them: %s', async (text, id) => {
    expect(await found(text)).toContain(`named_${id}`)
  })
})

describe('the other lists', () => {
  test('OC-6 OC-7 OC-8 CB-7 find by their own ids, by invoice number, and by whose they are', async () => {
    const first = async (path: string, key: string) =>
      (await read<Record<string, { id: string }[]>>(path))[key]!.map(({ id }) => id)
    expect(await first('billing/subscriptions?search=sub_seed_00042', 'subscriptions')).toEqual(['sub_seed_00042'])
    expect(await first('billing/subscriptions?search=owner-42%40', 'subscriptions')).toEqual(['sub_seed_00042'])
    expect(await first('billing/recent-charges?search=ch_seed_00042_', 'charges')).toHaveLength(3)
    expect(await first('billing/customers?search=owner-42%40', 'customers')).toEqual(['cus_seed_00042'])
    const invoices = await billing.call('operator', 'GET', '/api/v1/billing/admin/invoices?search=SEED-00042-0002')
    expect(invoices.body).toMatchObject({ invoices: [{ number: 'SEED-00042-0002' }], total: 1 })
    const paid = await billing.call(
      'operator',
      'GET',
      '/api/v1/billing/admin/invoices?status=paid&currency=eur&sort=created&limit=1',
    )
    expect(paid.body).toMatchObject({ invoices: [{ status: 'paid', currency: 'eur' }], total: 250, total_capped: true })
  })

  test('OC-7 subscriptions of a plan, oldest first, page by page', async () => {
    type Subscriptions = Page & { subscriptions: { id: string; tier: string }[] }
    const path = 'billing/subscriptions?plan=pro&sort=created&limit=2'
    const page = await read<Subscriptions>(path)
    const next = await read<Subscriptions>(`${path}&cursor=${page.next_cursor}`)
    const tiers = [...page.subscriptions, ...next.subscriptions].map(({ tier }) => tier)
    expect(tiers).toEqual(['PRO', 'PRO', 'PRO', 'PRO'])
    expect(new Set([...page.subscriptions, ...next.subscriptions].map(({ id }) => id)).size).toBe(4)
  })
})
