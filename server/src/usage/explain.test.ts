import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import { testRoutes } from '../../test/routes.ts'
import { registerGrantRoutes } from '../grants/routes.ts'
import { DAY_MS, MINUTE_MS } from '../lib/period.ts'
import { registerUsageRoutes } from '../metering/wire/routes.ts'
import { registerExplainRoutes } from './explain-routes.ts'

const fixture = testMetering({
  meters: { tokens: {}, calls: { aggregation: 'count', filter: { status: ['ok'] } }, seats: { aggregation: 'latest' } },
  credits: { credits: { costs: { tokens: '0.5', calls: 1 } } },
  plans: {
    free: {
      name: 'Free',
      allowances: { credits: { amount: 20, rollover: { max: 8 } }, seats: { amount: 3, period: 'calendar_month' } },
    },
    pro: {
      name: 'Pro',
      allowances: {
        credits: { amount: 60, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: '2.5' } },
        seats: { amount: 9, period: 'calendar_month' },
      },
    },
  },
  defaultPlan: 'free',
})
const call = testRoutes((app) => {
  const { db } = fixture.database
  const context = { ...fixture.context(), db, metering: fixture.metering() }
  registerUsageRoutes(app, context)
  registerGrantRoutes(app, context)
  registerExplainRoutes(app, context)
})

const START = new Date('2026-03-10T12:00:00Z')
const CYCLE = { start: new Date('2026-03-05T07:08:09Z'), end: new Date('2026-04-05T07:08:09Z') }

type Share = {
  id: string
  amount: number | null
  used: number
  overage: number
  reserved: number
  revoked: number
  expired: number
  remaining: number | null
  holds: { amount: number }[]
  overage_cost: { amount_minor: number } | null
  starts_at: string
  expires_at: string | null
}
type Event = {
  id: string
  verb: string
  counted: number
  credits_used: number
  overage: number
  idempotency_key: string
  refusal: string | null
  period_start: string
  draws: { grant: string; amount: number; overage: number }[]
}
type Explained = {
  balance: Record<string, number>
  grants: Share[]
  events: Event[]
  next_cursor: string | null
} & Record<string, unknown>

/** An explanation with all pages of its events. */
async function explain(organizationId: string, query: Record<string, string>): Promise<Explained> {
  const events: Event[] = []
  let whole: Explained | undefined
  for (let cursor: string | null = ''; cursor !== null;) {
    const asked = new URLSearchParams({ ...query, limit: '3', ...(cursor === '' ? {} : { cursor }) }).toString()
    const { status, body } = await call('GET', `/api/v1/usage/explain?${asked}`, undefined, organizationId)
    if (status !== 200) throw new Error(JSON.stringify(body))
    whole = body as Explained
    events.push(...whole.events)
    cursor = whole.next_cursor
  }
  return { ...whole!, events }
}

const exact = (value: number): number => Math.round(value * 1e6) / 1e6
const sumOf = <Item>(items: readonly Item[], read: (item: Item) => number): number =>
  exact(items.reduce((sum, item) => sum + read(item), 0))

type Command =
  | {
      readonly kind: 'use'
      readonly verb: 'consume' | 'track'
      readonly meter: string
      readonly quantity: number
      readonly daysAgo: number
      readonly ok: boolean
    }
  | { readonly kind: 'reserve'; readonly quantity: number }
  | { readonly kind: 'settle'; readonly quantity: number }
  | { readonly kind: 'correct'; readonly quantity: number; readonly which: number }
  | { readonly kind: 'give'; readonly amount: number; readonly days: number }
  | { readonly kind: 'revoke'; readonly amount: number }
  | { readonly kind: 'plan'; readonly plan: 'free' | 'pro' }
  | { readonly kind: 'clock'; readonly days: number }

const amount = fc.integer({ min: 0, max: 30 })
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('use' as const),
      verb: fc.constantFrom('consume' as const, 'track' as const),
      meter: fc.constantFrom('tokens', 'calls', 'seats'),
      quantity: amount,
      daysAgo: fc.constantFrom(0, 0, 1, 20),
      ok: fc.boolean(),
    }),
  },
  fc.record({ kind: fc.constant('reserve' as const), quantity: amount }),
  fc.record({ kind: fc.constant('settle' as const), quantity: amount }),
  fc.record({ kind: fc.constant('correct' as const), quantity: fc.integer({ min: -30, max: 10 }), which: fc.nat(20) }),
  fc.record({ kind: fc.constant('give' as const), amount: fc.integer({ min: 1, max: 30 }), days: fc.constantFrom(3, 40) }),
  fc.record({ kind: fc.constant('revoke' as const), amount: fc.integer({ min: 1, max: 20 }) }),
  fc.record({ kind: fc.constant('plan' as const), plan: fc.constantFrom('free' as const, 'pro' as const) }),
  fc.record({ kind: fc.constant('clock' as const), days: fc.constantFrom(1, 6, 25) }),
)

type Run = { readonly id: string; readonly keys: string[]; readonly holds: string[]; readonly gifts: string[] }

async function run(state: Run, one: Command, index: number): Promise<void> {
  const { id, keys, holds, gifts } = state
  const key = `c${index}`
  const post = (path: string, body: unknown, as = id) => call('POST', `/api/v1/${path}`, body, as)
  switch (one.kind) {
    case 'use': {
      const occurred = new Date(fixture.clock.now().getTime() - one.daysAgo * DAY_MS)
      const when = one.daysAgo === 0 ? {} : { occurred_at: occurred.toISOString() }
      const properties = { status: one.ok ? 'ok' : 'failed' }
      await post(`usage/${one.verb}`, { meter: one.meter, quantity: one.quantity, idempotency_key: key, properties, ...when })
      keys.push(key)
      return
    }
    case 'reserve': {
      const { body } = await post('usage/reservations', {
        meter: 'tokens',
        quantity: one.quantity,
        idempotency_key: key,
        expires_in_seconds: 86_400,
      })
      if (typeof body['reservation_id'] === 'string') holds.push(body['reservation_id'])
      return
    }
    case 'settle': {
      const hold = holds.shift()
      if (hold !== undefined) await post(`usage/reservations/${hold}/settle`, { quantity: one.quantity })
      return
    }
    case 'correct':
      await post('usage/corrections', {
        corrects: keys[one.which % (keys.length || 1)] ?? 'none',
        quantity: one.quantity,
        idempotency_key: key,
        reason: 'x',
      })
      return
    case 'give': {
      const expires = new Date(fixture.clock.now().getTime() + one.days * DAY_MS).toISOString()
      const body = {
        organization_id: id,
        balance: 'credits',
        amount: one.amount,
        kind: 'promotion',
        expires_at: expires,
        idempotency_key: key,
      }
      gifts.push(String((await post('grants', body, 'operator')).body['id']))
      return
    }
    case 'revoke':
      if (gifts[0] !== undefined)
        await post(`grants/${encodeURIComponent(gifts[0])}/revoke`, { organization_id: id, amount: one.amount }, 'operator')
      return
    case 'plan':
      await fixture.subscribe(id, one.plan, CYCLE)
      return
    case 'clock':
      fixture.clock.advance(one.days * DAY_MS + MINUTE_MS)
  }
}

function expectShareToAddUp(share: Share, events: readonly Event[]): void {
  const draws = events.flatMap((event) => event.draws.filter(({ grant }) => grant === share.id))
  expect(
    sumOf(draws, (draw) => draw.amount + draw.overage),
    `events of ${share.id}`,
  ).toBe(exact(share.used + share.overage))
  expect(sumOf(share.holds, (hold) => hold.amount)).toBe(share.reserved)
  const left = exact((share.amount ?? 0) - share.used - share.reserved - share.revoked - share.expired)
  expect(share.remaining).toBe(left)
}

describe('an explanation adds up to what it explains', () => {
  it('whatever was used, held, corrected, given, revoked and changed', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(command, { minLength: 5, maxLength: 25 }), async (commands) => {
        fixture.clock.set(START)
        const id = await fixture.newOrganization()
        const state: Run = { id, keys: [], holds: [], gifts: [] }
        for (const [index, one] of commands.entries()) await run(state, one, index)

        const { body } = await call('GET', '/api/v1/balances', undefined, id)
        for (const balance of body['balances'] as Record<string, number>[]) {
          const explained = await explain(id, { balance: String(balance['balance']) })
          expect(explained.balance).toEqual(balance)
          for (const share of explained.grants) expectShareToAddUp(share, explained.events)
          const now = fixture.clock.now().toISOString()
          const counting = explained.grants.filter(({ expires_at: end }) => end === null || end > now)
          expect(sumOf(counting, (share) => share.overage)).toBe(balance['overage'])
          expect(sumOf(counting, (share) => share.reserved)).toBe(balance['reserved'])
          expect(sumOf(counting, (share) => share.remaining ?? 0)).toBe(balance['remaining'])
          // The plan's allowance, and what uses of the period drew from whatever else.
          const own = explained.events.filter((event) => event.period_start === String(balance['period_start']))
          const draws = own.flatMap((event) => event.draws.filter(({ grant }) => !grant.startsWith('plan:')))
          const plan = counting.filter((share) => share.id.startsWith('plan:'))
          const used = exact(sumOf(plan, (share) => share.used) + sumOf(draws, (draw) => draw.amount))
          expect(used).toBe(balance['used'])
          expect(exact(used + balance['reserved']! + balance['remaining']!)).toBe(balance['amount'])
        }
        const { body: given } = await call('GET', '/api/v1/grants', undefined, id)
        for (const grant of given['grants'] as { id: string; overage: number; plan: string }[]) {
          const explained = await explain(id, { grant: grant.id })
          expectShareToAddUp(explained.grants[0]!, explained.events)
          // 2.5 cents a credit beyond the plan's.
          const cost = explained.grants[0]!.overage_cost?.amount_minor ?? 0
          expect(cost).toBe(grant.plan === 'pro' && grant.id.includes(':credits:') ? Math.round(grant.overage * 2.5) : 0)
          const balance = explained['balance'] as unknown as string
          // An allowance that was replaced at once counted at no moment.
          if (explained.grants[0]!.starts_at === explained.grants[0]!.expires_at) continue
          const period = await explain(id, { balance, at: explained.grants[0]!.starts_at })
          expect(period.grants.map((share) => share.id)).toContain(grant.id)
          for (const share of period.grants) expectShareToAddUp(share, period.events)
        }
        for (const meter of ['tokens', 'calls', 'seats']) {
          const span = { meter, start: '2026-01-01T00:00:00Z', end: '2027-06-01T00:00:00Z' }
          const figure = await explain(id, span)
          expect(sumOf(figure.events, (event) => event.counted)).toBe(figure['quantity'])
          expect(sumOf(figure.events, (event) => event.credits_used)).toBe(figure['credits_used'])
          expect(sumOf(figure.events, (event) => event.overage)).toBe(figure['overage'])
          expect(figure.events.filter(({ verb }) => verb !== 'correct').length).toBe(figure['uses'])
          // Within an hour, within the first hour of the cycle, and between.
          const split = ['2026-03-10T12:20:30Z', '2026-04-05T07:08:09Z', '2026-04-05T07:05:00Z', '2026-03-21T00:00:00Z'][
            commands.length % 4
          ]!
          const halves = [await explain(id, { ...span, end: split }), await explain(id, { ...span, start: split })]
          expect(sumOf(halves, (half) => half['quantity'] as number)).toBe(figure['quantity'])
          for (const half of halves) expect(sumOf(half.events, (event) => event.counted)).toBe(half['quantity'])
        }
        for (const key of state.keys) {
          const answer = await call('GET', `/api/v1/usage/explain?idempotency_key=${key}`, undefined, id)
          if (answer.status === 404) continue
          const { use, corrections, counts } = answer.body as { use: Event; corrections: Event[]; counts: number }
          expect(counts).toBe(sumOf([use, ...corrections], (event) => event.counted))
          expect((await call('GET', `/api/v1/usage/explain?id=${use.id}`, undefined, id)).body).toEqual(answer.body)
        }
      }),
      { numRuns: 25 },
    )
  })
})

describe('one refusal', () => {
  it('is explained by its key and by its id, in words, with what there was', async () => {
    fixture.clock.set(START)
    const id = await fixture.newOrganization()
    const use = (quantity: number, key: string) =>
      call('POST', '/api/v1/usage/consume', { meter: 'tokens', quantity, idempotency_key: key }, id)
    await use(30, 'fits')
    await use(20, 'does not')
    const answer = await call('GET', '/api/v1/usage/explain?idempotency_key=does not', undefined, id)
    expect(answer.body).toMatchObject({
      kind: 'use',
      use: { refusal: 'quota_exceeded', quantity: 20, counted: 0, draws: [] },
      reason: 'Monthly quota exceeded. Used 15/20 credits.',
      balance_after: { amount: 20, used: 15, remaining: 5 },
      counts: 0,
      credits_used: 0,
      grants: [{ kind: 'plan', amount: 20, used: 15, remaining: 5 }],
    })
  })
})

it('explains one thing at a time, of the caller’s own', async () => {
  const [id, other] = [await fixture.newOrganization(), await fixture.newOrganization()]
  await call('POST', '/api/v1/usage/consume', { meter: 'tokens', quantity: 1, idempotency_key: 'mine' }, id)
  const { use } = (await call('GET', '/api/v1/usage/explain?idempotency_key=mine', undefined, id)).body as { use: Event }
  const gift = { organization_id: id, balance: 'credits', amount: 1, idempotency_key: 'a gift' }
  const grant = encodeURIComponent(String((await call('POST', '/api/v1/grants', gift, 'operator')).body['id']))
  const status = async (query: string, as: string) => (await call('GET', `/api/v1/usage/explain?${query}`, undefined, as)).status
  expect(await status('', id)).toBe(400)
  expect(await status('balance=credits&meter=tokens', id)).toBe(400)
  expect(await status('balance=nothing', id)).toBe(404)
  expect(await status('meter=nothing', id)).toBe(422)
  expect(await status('id=nothing', id)).toBe(404)
  expect(await status(`id=${use.id}`, id)).toBe(200)
  expect(await status(`id=${use.id}`, other)).toBe(404)
  expect(await status('idempotency_key=mine', other)).toBe(404)
  expect(await status(`grant=${grant}`, id)).toBe(200)
  expect(await status(`grant=${grant}`, other)).toBe(404)
  expect(await status(`grant=${grant}&organization_id=${id}`, other)).toBe(404)
})
