import { describe, expect, test, vi } from 'vitest'
import { PATIENCE } from '../../../test/patience.ts'
import { testMetering } from '../../../test/metering.ts'
import { MICRO } from '../../lib/quantity.ts'
import type { Outcome } from '../decide/decision.ts'
import { createMetering } from '../metering.ts'
import type { RecordRequest, UsageAnswer } from '../usage.ts'
import { commitUsage } from './commit.ts'
import { KeyLooks } from './key-looks.ts'
import { isRepeatedKey } from './store.ts'

const fixture = testMetering({
  meters: { calls: {}, tokens: {} },
  plans: {
    free: {
      name: 'Free',
      allowances: { calls: { amount: 'unlimited' }, tokens: { amount: 100 } },
      rateLimits: { calls: { limit: 3, per: 'minute' } },
    },
  },
  defaultPlan: 'free',
})

let keys = 0
const use = (organizationId: string, over: Partial<RecordRequest> = {}): RecordRequest => ({
  verb: 'consume',
  organizationId,
  meter: 'calls',
  quantity: MICRO,
  idempotencyKey: `key ${(keys += 1)}`,
  occurredAt: null,
  properties: null,
  ...over,
})

function answersOf(outcomes: readonly Outcome[]): UsageAnswer[] {
  return outcomes.map((outcome) => {
    if (outcome.kind === 'error') throw outcome.error
    return outcome.answer
  })
}

/** As a group that takes every key for new. */
function commitUnseen(requests: readonly RecordRequest[]): Promise<readonly Outcome[]> {
  return fixture.connections().transaction((tx) => commitUsage(tx, fixture.context(), requests, { looksForKeys: false }))
}

async function storedKeys(organizationId: string): Promise<number> {
  const { rows } = await fixture.database.db.query<{ count: number }>(
    'select count(*)::int as count from usage_keys where organization_id = $1',
    [organizationId],
  )
  return rows[0]!.count
}

describe('a group that does not look for its keys', () => {
  test('fails whole where a key was used before, and writes nothing', async () => {
    const organization = await fixture.newOrganization()
    const [first, second] = [use(organization), use(organization)]
    expect(answersOf(await commitUnseen([first]))).toMatchObject([{ allowed: true, replayed: false }])
    await expect(commitUnseen([second, first])).rejects.toSatisfy(isRepeatedKey)
    expect(await storedKeys(organization)).toBe(1)
  })

  test('fails where a request has no event of its own: it must not keep its key', async () => {
    const organization = await fixture.newOrganization()
    const tooMany = Array.from({ length: 4 }, () => use(organization))
    await expect(commitUnseen(tooMany)).rejects.toThrow('must not keep its key')
    await expect(commitUnseen([use(organization, { meter: 'unheard' })])).rejects.toThrow('must not keep its key')
    await expect(commitUnseen([use('nobody')])).rejects.toThrow('must not keep its key')
    expect(await storedKeys(organization)).toBe(0)
    expect(await storedKeys('nobody')).toBe(0)
  })

  test('takes a key that it names twice once', async () => {
    const organization = await fixture.newOrganization()
    const [one, other] = [use(organization), use(organization)]
    const answers = answersOf(await commitUnseen([one, other, one]))
    expect(answers.map(({ replayed }) => replayed)).toEqual([false, false, true])
    expect(await storedKeys(organization)).toBe(2)
  })
})

describe('a caller', () => {
  test('gets the first answer again, also when the same use would be refused for its pace by now', async () => {
    const organization = await fixture.newOrganization()
    const first = use(organization)
    const [answer] = answersOf(await fixture.metering().submit([first]))
    for (let more = 0; more < 2; more += 1) await fixture.metering().submit([use(organization)])
    expect(answersOf(await fixture.metering().submit([use(organization)]))).toMatchObject([{ code: 'rate_limited' }])
    expect(answersOf(await fixture.metering().submit([first]))).toEqual([{ ...answer, replayed: true }])
  })

  test('and others that repeat the same keys at once from several processes all get the first answers', async () => {
    const organization = await fixture.newOrganization()
    const uses = Array.from({ length: 50 }, () => use(organization, { meter: 'tokens' }))
    const groups = await Promise.all([uses, uses.toReversed(), uses].map((group) => commitUnseen(group).catch(() => null)))
    const done = groups.filter((group) => group !== null)
    expect(done.length).toBe(1)
    const again = answersOf(await fixture.metering().submit(uses))
    expect(again.every(({ replayed }) => replayed)).toBe(true)
    expect(new Set(again.map(({ eventId }) => eventId)).size).toBe(50)
  })
})

test('a process that looks and one that does not answer the same uses alike, also when they wait for each other in a circle', async () => {
  const organization = await fixture.newOrganization()
  const common = { connections: fixture.connections(), ...fixture.context() }
  const [looking, other] = [createMetering(common), createMetering(common)]
  const before = use(organization, { meter: 'tokens' })
  await looking.submit([before])
  await looking.submit([before])
  const uses = Array.from({ length: 5 }, () => use(organization, { meter: 'tokens' }))
  const { db } = fixture.database
  const waiting = async (): Promise<number> =>
    (await db.query(`select from pg_stat_activity where application_name = 'tollgate usage' and wait_event_type = 'Lock'`))
      .rowCount!
  const both = await db.transaction(async (tx) => {
    await tx.query('select from accounts where organization_id = $1 for update', [organization])
    // The one that looks is the first to get the lock; the other one has the keys.
    const first = looking.submit(uses)
    await vi.waitFor(async () => expect(await waiting()).toBe(1), PATIENCE)
    const second = other.submit(uses.toReversed())
    await vi.waitFor(async () => expect(await waiting()).toBe(2), PATIENCE)
    return [first, second] as const
  })
  const [ours, theirs] = [answersOf(await both[0]), answersOf(await both[1]).toReversed()]
  expect(ours.map(({ eventId }) => eventId)).toEqual(theirs.map(({ eventId }) => eventId))
  expect(ours.map(({ replayed }) => replayed)).toEqual(theirs.map(({ replayed }) => !replayed))
  await Promise.all([looking.stop(), other.stop()])
})

test('after a repeat the next groups look for their keys, until as many in a row held none', () => {
  const looks = new KeyLooks()
  const request = use('org')
  const outcome = (eventId: string | null, replayed: boolean): Outcome =>
    ({ kind: 'answer', answer: { eventId, replayed } }) as Outcome
  expect(looks.wanted).toBe(false)
  looks.needed()
  looks.learn([request], [outcome('event', true)])
  for (let group = 0; group < 64; group += 1) {
    expect(looks.wanted).toBe(true)
    looks.learn([request], [outcome('event', false)])
  }
  expect(looks.wanted).toBe(false)
})
