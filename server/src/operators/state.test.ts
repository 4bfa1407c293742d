import { beforeAll, describe, expect, test } from 'vitest'
import { testSubscriptions } from '../../test/subscriptions.ts'
import { advanceTestClock, startTestClock } from '../stripe/test-clock.ts'
import { describeStanding } from './words.ts'

const billing = testSubscriptions({ webhooks: false })
const { post } = billing
const read = (path: string, caller = 'operator') => billing.call(caller, 'GET', `/api/v1/admin/organizations/${path}`)

type Timeline = {
  readonly entries: readonly { kind: string; id: string; at: string; summary: string; data: Record<string, string> }[]
  readonly next_cursor: string | null
}

beforeAll(async () => {
  await billing.createOrganization('told')
  await post('told', 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })

  await billing.call('operator', 'PATCH', '/api/v1/admin/billing/told', { plan: 'enterprise', reason: 'goodwill' })
  await billing.database.db.query(
    `insert into usage_event_blocks (organization_id, recorded_at, id, verb, idempotency_key, meter, quantity, occurred_at, dated, counted, drawn,
       overage, refusal, balance, plan_key, period, period_start, after_used, after_overage, after_reserved)
     select 'told', now(), gen_random_uuid(), 'consume', 'k' || n, 'episode_search', 1, now(), false, 0, 0, 0,
       case when n <= 3 then 'quota_exceeded' end, 'credits', 'pro', 'calendar_month', now(), 0, 0, 0 from generate_series(1, 5) n`,
  )
})

describe('the whole state of an organization', () => {
  test('is one object, with the reason for its standing in words', async () => {
    const { status, body } = await read('told')
    expect(status, JSON.stringify(body)).toBe(200)
    expect(body).toMatchObject({
      organization: { id: 'told', stripe_customer_id: expect.stringMatching(/^cus_/) as string },
      explanation: expect.stringMatching(
        /^The subscription is paid\. State: active until \d{4}-.*, plan enterprise\.$/,
      ) as string,
      subscription: { status: 'active', plan: 'enterprise', standing: { state: 'active', reason: 'paid' } },
      override: { plan: 'enterprise', set_by: 'operator:test', reason: 'goodwill' },
      revenue: [{ currency: 'usd', mrr_minor: 2900 }],
      balances: [{ balance: 'credits', amount: null, spend_limit_minor: null, spent_minor: null, currency: null }],
      invoices: {
        totals: [{ status: 'paid', currency: 'usd', count: 1, total_minor: 2900, remaining_minor: 0 }],
        latest: [{ status: 'paid' }],
      },
      payment_methods: [{ type: 'card', card: { last4: '4242' } }],
      members: [],
      stripe: { drift: [] },
    })
  })

  test('says which change is scheduled, or that it is cancelled, and for when', async () => {
    await billing.createOrganization('leaves')
    await post('leaves', 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
    const explanation = async () => (await read('leaves')).body['explanation']
    expect(await explanation()).toMatch(/plan pro\.$/)
    const { db } = billing.database
    const { rows } = await db.query<{ end: Date }>(
      `select current_period_end as end from accounts where organization_id = 'leaves'`,
    )
    const end = `${rows[0]!.end.toISOString().slice(0, 16).replace('T', ' ')} UTC`
    await post('leaves', 'cancel', { immediate: false })
    expect(await explanation()).toMatch(new RegExp(`plan pro\\. It is cancelled: the subscription ends on ${end}\\.$`))
    await post('leaves', 'cancel/undo')
    expect(await explanation()).toMatch(/plan pro\.$/)
    await db.query(
      `update accounts set scheduled_plan_key = 'starter', scheduled_price_key = 'yearly', scheduled_at = current_period_end
       where organization_id = 'leaves'`,
    )
    expect(await explanation()).toMatch(new RegExp(`plan pro\\. It changes to plan starter, yearly, on ${end}\\.$`))
  })

  test('holds no secret of its keys', async () => {
    await billing.database.db.query(
      `insert into api_keys (organization_id, id, name, scopes, digest, bcrypt_hash, display_prefix, created_at)
       values ('told', 'key_1', 'application', '{read}', 'the digest', 'the bcrypt hash', 'tg_abc', now())`,
    )
    const { body } = await read('told')
    expect(body).toMatchObject({ api_keys: [{ id: 'key_1', name: 'application', display_prefix: 'tg_abc' }] })
    expect(JSON.stringify(body)).not.toMatch(/digest|bcrypt|hash/)
  })

  test('is for operators, and there is none of an organization that is not', async () => {
    for (const path of ['told', 'told/timeline']) {
      expect((await read(path, 'told')).status).toBe(403)
      expect((await read(path, 'nobody')).status).toBe(401)
    }
    expect((await read('nowhere')).status).toBe(404)
    expect((await read('nowhere/timeline')).status).toBe(404)
  })
})

describe('the timeline', () => {
  test('tells what happened, refusals in sum', async () => {
    const { entries } = (await read('told/timeline')).body as unknown as Timeline
    const kinds = new Set(entries.map(({ kind }) => kind))
    for (const kind of ['billing', 'audit', 'grant', 'revenue', 'refusals']) expect(kinds).toContain(kind)
    const sentences = entries.map(({ summary }) => summary)
    expect(sentences).toContain('operator:test: standing.overridden (told).')
    expect(sentences).toContain('Monthly revenue: new, now 2900 minor units of usd.')
    expect(sentences.filter((sentence) => sentence.startsWith('3 uses of episode_search refused'))).toHaveLength(1)
    const times = entries.map(({ at }) => at)
    expect(times).toEqual(times.toSorted().toReversed())
  })

  test('is in the order in which things were written down, also on a test clock that is months ahead', async () => {
    await billing.createOrganization('ahead')
    await startTestClock(billing.context, 'ahead')
    await post('ahead', 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
    await advanceTestClock(billing.context, 'ahead', { by: '65d' })
    await billing.call('operator', 'PATCH', '/api/v1/admin/billing/ahead', { plan: 'enterprise', reason: 'goodwill' })
    const { entries } = (await read('ahead/timeline?limit=200')).body as unknown as Timeline
    const soon = new Date(Date.parse(entries.find(({ kind }) => kind === 'audit')!.at) + 60_000).toISOString()
    expect(entries.filter(({ at }) => at > soon)).toEqual([])
    const grants = entries.filter(({ kind }) => kind === 'grant')
    expect(grants.filter(({ data }) => data['occurred_at']! > soon).length).toBeGreaterThan(0)
  })

  test('comes page by page, each entry once, and by kind', async () => {
    const all = ((await read('told/timeline?limit=200')).body as unknown as Timeline).entries
    const seen: string[] = []
    for (let cursor: string | null = ''; cursor !== null;) {
      const path: string = `told/timeline?limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`
      const page = (await read(path)).body as unknown as Timeline
      seen.push(...page.entries.map(({ kind, id }) => `${kind} ${id}`))
      cursor = page.next_cursor
    }
    expect(seen).toEqual(all.map(({ kind, id }) => `${kind} ${id}`))
    const audits = ((await read('told/timeline?kind=audit')).body as unknown as Timeline).entries
    expect(audits.length).toBeGreaterThan(0)
    expect(audits.every(({ kind }) => kind === 'audit')).toBe(true)
    const never = Buffer.from('2026-13-01 00:00:00+00\naudit\n1').toString('base64url')
    for (const cursor of ['nonsense', never]) {
      expect((await read(`told/timeline?cursor=${cursor}`)).body).toMatchObject({ code: 'invalid_request', field: 'cursor' })
    }
  })
})

test('a standing in words says why, since when, until when, and on which plan', () => {
  const at = new Date('2026-03-04T05:06:00Z')
  const standing = {
    state: 'suspended',
    mayUse: false,
    reason: 'payment_failed',
    planKey: 'pro',
    since: at,
    until: null,
  } as const
  expect(describeStanding(standing, null)).toBe(
    'A payment failed or was charged back, and the days of grace are over. Use stops until it is paid. State: suspended since 2026-03-04 05:06 UTC, plan pro.',
  )
})
