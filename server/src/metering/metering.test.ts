import { describe, expect, test } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import { listGrants } from '../grants/store.ts'
import { DomainError } from '../lib/errors.ts'
import { DAY_MS } from '../lib/period.ts'
import { MICRO, parseQuantity } from '../lib/quantity.ts'
import { createMetering } from './metering.ts'
import { readBalances } from './reads.ts'
import type { UsageAnswer, UsageRequest } from './usage.ts'
import { openUsageConnections } from './write/pipeline.ts'

const fixture = testMetering()
const { database, clock, newOrganization, subscribe } = fixture
const ask = (request: UsageRequest): Promise<UsageAnswer> => fixture.metering().ask(request)
let keys = 0

const month = () => ({ start: clock.now(), end: new Date(clock.now().getTime() + 31 * DAY_MS) })

const use = (
  verb: 'consume' | 'track',
  organizationId: string,
  quantity: number | string,
  { meter = 'episode_ingestion', key = `k${(keys += 1)}`, occurredAt = null as Date | null } = {},
): UsageRequest => ({
  verb,
  organizationId,
  meter,
  quantity: parseQuantity(quantity),
  idempotencyKey: key,
  occurredAt,
  properties: null,
})

async function creditsOf(organizationId: string) {
  const reading = await fixture.connections().read((client) => readBalances(client, fixture.context(), organizationId))
  return reading.balances.find((balance) => balance.balanceKey === 'credits')!
}

describe('counting on a real database', () => {
  test('200 concurrent calls for the last 50 credits allow exactly 50', async () => {
    const organizationId = await newOrganization()
    await ask(use('consume', organizationId, 50))
    const answers = await Promise.all(Array.from({ length: 200 }, () => ask(use('consume', organizationId, 1))))
    expect(answers.filter((answer) => answer.allowed)).toHaveLength(50)
    expect(await creditsOf(organizationId)).toMatchObject({ used: 100n * MICRO, remaining: 0n, overage: 0n })
  })

  test('two processes’ writers on one database never overshoot together', async () => {
    const organizationId = await newOrganization()
    const others = openUsageConnections({ connectionString: database.url, size: 4 })
    const other = createMetering({ connections: others, ...fixture.context() })
    const calls = Array.from({ length: 300 }, (_, index) =>
      (index % 2 === 0 ? fixture.metering() : other).ask(use('consume', organizationId, 1)),
    )
    const answers = await Promise.all(calls)
    await other.stop()
    await others.close()
    expect(answers.filter((answer) => answer.allowed)).toHaveLength(100)
  })

  test('a key that reaches two processes at once, before its organization has an account, is counted once', async () => {
    const organizationIds = await Promise.all(Array.from({ length: 40 }, newOrganization))
    const others = openUsageConnections({ connectionString: database.url, size: 4 })
    const other = createMetering({ connections: others, ...fixture.context() })
    for (const organizationId of organizationIds) {
      const request = use('consume', organizationId, 1)
      const answers = await Promise.all([fixture.metering().ask(request), other.ask(request)])
      expect(new Set(answers.map((answer) => answer.eventId)).size).toBe(1)
      expect(answers.filter((answer) => answer.replayed)).toHaveLength(1)
    }
    await other.stop()
    await others.close()
  })

  test('ten searches cost exactly one credit (EM-2)', async () => {
    const organizationId = await newOrganization()
    await fixture
      .metering()
      .submit(Array.from({ length: 10 }, () => use('consume', organizationId, 1, { meter: 'episode_search' })))
    expect((await creditsOf(organizationId)).used).toBe(MICRO)
  })

  test('an unknown organization is that request’s error alone, and its key stays free', async () => {
    const organizationId = await newOrganization()
    const outcomes = await fixture.metering().submit([use('consume', 'nobody', 1), use('consume', organizationId, 1)])
    expect(outcomes.map((outcome) => outcome.kind)).toEqual(['error', 'answer'])
    const left = await database.db.query(`select 1 from usage_keys where organization_id = 'nobody'`)
    expect(left.rowCount).toBe(0)
  })

  test('events, hours and grants tell the same sums', async () => {
    const organizationId = await newOrganization()
    await fixture
      .metering()
      .submit([use('consume', organizationId, '1.5'), use('track', organizationId, 200), use('consume', organizationId, 1)])
    const { rows } = await database.db.query(
      `select (select sum(drawn) from usage_events where organization_id = $1)::text as events,
        (select sum(drawn) from usage_hourly where organization_id = $1)::text as hours,
        (select sum(used + overage) from grants where organization_id = $1)::text as grants,
        (select count(*) from usage_events where organization_id = $1 and refusal = 'quota_exceeded')::int as refusals`,
      [organizationId],
    )
    expect(rows[0]).toEqual({ events: '201500000', hours: '201500000', grants: '201500000', refusals: 1 })
  })
})

describe('repeats', () => {
  test('a repeat answers what was answered first, also a refusal, also after the plan has changed', async () => {
    const organizationId = await newOrganization()
    const allowed = use('consume', organizationId, 60, { key: 'a' })
    const refused = use('consume', organizationId, 60, { key: 'b' })
    const first = [await ask(allowed), await ask(refused)]
    await subscribe(organizationId, 'pro', month())
    const again = [await ask(allowed), await ask(refused)]
    expect(again).toEqual(first.map((answer) => ({ ...answer, replayed: true })))
  })

  test('the same key with another body is refused and names the field', async () => {
    const organizationId = await newOrganization()
    await ask(use('consume', organizationId, 1, { key: 'a' }))
    await expect(ask(use('consume', organizationId, 2, { key: 'a' }))).rejects.toMatchObject({
      code: 'idempotency_conflict',
      details: { field: 'quantity' },
    })
  })

  test('a key whose request was wrong may be used again, rightly', async () => {
    const organizationId = await newOrganization()
    await expect(ask(use('consume', organizationId, 1, { key: 'a', meter: 'nothing' }))).rejects.toThrow(DomainError)
    expect((await ask(use('consume', organizationId, 1, { key: 'a' }))).replayed).toBe(false)
  })

  test('one key in many concurrent requests is counted once', async () => {
    const organizationId = await newOrganization()
    const answers = await Promise.all(Array.from({ length: 50 }, () => ask(use('consume', organizationId, 1, { key: 'same' }))))
    expect(answers.filter((answer) => !answer.replayed)).toHaveLength(1)
    expect((await creditsOf(organizationId)).used).toBe(MICRO)
  })
})

describe('periods and plans', () => {
  test('a new month is a new grant, and the old one stays readable', async () => {
    const organizationId = await newOrganization()
    await ask(use('consume', organizationId, 100))
    const before = clock.now()
    clock.set(new Date('2026-04-01T00:00:00Z'))
    expect((await creditsOf(organizationId)).remaining).toBe(100n * MICRO)
    expect((await ask(use('consume', organizationId, 1))).allowed).toBe(true)
    const late = await ask(use('track', organizationId, 5, { occurredAt: new Date('2026-03-20T00:00:00Z') }))
    expect(late.balance).toMatchObject({ periodStart: new Date('2026-03-01T00:00:00Z'), used: 100n * MICRO, overage: 5n * MICRO })
    expect((await creditsOf(organizationId)).used).toBe(MICRO)
    clock.set(before)
  })

  test('an upgrade within the period counts what was used against the new amount; going back hands nothing out again', async () => {
    const organizationId = await newOrganization()
    const { start, end } = month()
    await subscribe(organizationId, 'starter', { start, end })
    await ask(use('consume', organizationId, 400))
    await subscribe(organizationId, 'pro', { start, end })
    expect(await creditsOf(organizationId)).toMatchObject({ planKey: 'pro', remaining: 4600n * MICRO })
    await ask(use('consume', organizationId, 700))
    await subscribe(organizationId, 'starter', { start, end })
    expect(await creditsOf(organizationId)).toMatchObject({ planKey: 'starter', remaining: 0n, overage: 0n })
    await subscribe(organizationId, 'pro', { start, end })
    expect(await creditsOf(organizationId)).toMatchObject({ remaining: 3900n * MICRO })
  })

  test('leaving a plan ends its allowance, and the free one goes on where it stood', async () => {
    const organizationId = await newOrganization()
    await ask(use('consume', organizationId, 30))
    await subscribe(organizationId, 'pro', month())
    await ask(use('consume', organizationId, 10))
    await database.db.query(`update accounts set subscription_status = 'canceled' where organization_id = $1`, [organizationId])
    // Nobody reconciled: the next use does.
    const answer = await ask(use('consume', organizationId, 1))
    expect(answer.balance).toMatchObject({ planKey: 'free', used: 31n * MICRO, remaining: 69n * MICRO })
    const grants = await listGrants(database.db, organizationId)
    expect(grants.filter((grant) => grant.balanceKey === 'credits' && grant.expiresAt! > clock.now())).toHaveLength(1)
  })

  test('reconciling twice changes nothing', async () => {
    const organizationId = await newOrganization()
    await subscribe(organizationId, 'pro', month())
    const first = await listGrants(database.db, organizationId)
    await subscribe(organizationId, 'pro', month())
    expect(await listGrants(database.db, organizationId)).toEqual(first)
    expect(first).toHaveLength(2)
  })

  test('an organization on a test clock lives in its own time', async () => {
    const organizationId = await newOrganization()
    await ask(use('consume', organizationId, 100))
    await database.db.query(`update organizations set test_clock_now = '2027-01-05T00:00:00Z' where id = $1`, [organizationId])
    const answer = await ask(use('consume', organizationId, 1))
    expect(answer).toMatchObject({ allowed: true, balance: { periodStart: new Date('2027-01-01T00:00:00Z') } })
  })
})

describe('reservations', () => {
  const reserve = (organizationId: string, quantity: number): UsageRequest => ({
    verb: 'reserve',
    organizationId,
    meter: 'episode_ingestion',
    quantity: parseQuantity(quantity),
    idempotencyKey: `k${(keys += 1)}`,
    properties: null,
    ttlMs: 60_000,
  })
  const check = (organizationId: string, quantity: number): UsageRequest => ({
    verb: 'check',
    organizationId,
    meter: 'episode_ingestion',
    quantity: parseQuantity(quantity),
    properties: null,
  })

  test('hold, settle for less, and settle again', async () => {
    const organizationId = await newOrganization()
    const held = await ask(reserve(organizationId, 80))
    expect((await ask(check(organizationId, 21))).allowed).toBe(false)
    const settle: UsageRequest = { verb: 'settle', organizationId, reservationId: held.reservation!.id, quantity: 30n * MICRO }
    const first = await ask(settle)
    expect(first.balance).toMatchObject({ used: 30n * MICRO, reserved: 0n, remaining: 70n * MICRO })
    expect(await ask(settle)).toEqual({ ...first, replayed: true })
  })

  test('a hold ends by itself: check, balances and consume see the amount again', async () => {
    const organizationId = await newOrganization()
    await ask(reserve(organizationId, 80))
    const before = clock.now()
    clock.advance(60_000)
    expect((await ask(check(organizationId, 100))).allowed).toBe(true)
    expect((await creditsOf(organizationId)).remaining).toBe(100n * MICRO)
    expect((await ask(use('consume', organizationId, 100))).allowed).toBe(true)
    clock.set(before)
  })
})

describe('when something is wrong', () => {
  test('a poisoned item fails alone, inside a batch and between callers', async () => {
    const organizationId = await newOrganization()
    await database.db.query(
      `create function poison() returns trigger language plpgsql as $$ begin
         if 666000000 = any (new.quantities || new.quantity) then raise exception 'poisoned'; end if; return new; end $$;
       create trigger poison before insert on usage_event_blocks for each row execute function poison()`,
    )
    const batch = fixture
      .metering()
      .submit([use('track', organizationId, 1), use('track', organizationId, 666), use('track', organizationId, 1)])
    const single = ask(use('track', organizationId, 1))
    expect((await batch).map((outcome) => outcome.kind)).toEqual(['answer', 'error', 'answer'])
    expect((await single).allowed).toBe(true)
    await database.db.query('drop trigger poison on usage_event_blocks')
    expect((await creditsOf(organizationId)).used).toBe(3n * MICRO)
  })

  test('a full queue refuses and counts nothing of what it refused', async () => {
    const organizationId = await newOrganization()
    const small = createMetering({ connections: fixture.connections(), ...fixture.context(), queueSize: 20 })
    const calls = await Promise.allSettled(Array.from({ length: 30 }, () => small.ask(use('track', organizationId, 1))))
    const refused = calls.filter((call) => call.status === 'rejected')
    expect(refused).toHaveLength(10)
    expect(refused[0]).toMatchObject({ reason: { code: 'overloaded' } })
    expect((await creditsOf(organizationId)).used).toBe(20n * MICRO)
    await small.stop()
  })

  test('stopping answers what was accepted and refuses what comes later', async () => {
    const organizationId = await newOrganization()
    const own = createMetering({ connections: fixture.connections(), ...fixture.context() })
    const accepted = Array.from({ length: 20 }, () => own.ask(use('track', organizationId, 1)))
    const stopped = own.stop()
    await expect(own.ask(use('track', organizationId, 1))).rejects.toMatchObject({ code: 'stopping' })
    await stopped
    expect(own.pending()).toBe(0)
    expect(await Promise.all(accepted)).toHaveLength(20)
  })

  test('an organization that somebody holds does not hold up its neighbours', async () => {
    const [held, free] = [await newOrganization(), await newOrganization()]
    await fixture.metering().submit([use('track', held, 1), use('track', free, 1)])
    const impatient = openUsageConnections({ connectionString: database.url, size: 2, statementTimeoutMs: 200 })
    const own = createMetering({ connections: impatient, ...fixture.context() })
    await database.db.transaction(async (tx) => {
      await tx.query('select 1 from accounts where organization_id = $1 for update', [held])
      const outcomes = await own.submit([use('track', held, 1), use('track', free, 1)])
      expect(outcomes).toMatchObject([{ kind: 'error', error: { code: 'overloaded' } }, { kind: 'answer' }])
    })
    await own.stop()
    await impatient.close()
    expect((await creditsOf(held)).used).toBe(MICRO)
  })
})
