import { expect, test } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import { writeAside } from '../../test/under-lock.ts'
import { UNTOUCHED, type Grant } from '../grants/rules.ts'
import { insertGrants } from '../grants/store.ts'
import { DAY_MS } from '../lib/period.ts'
import { MICRO } from '../lib/quantity.ts'
import { listImbalances } from './balance-store.ts'
import type { CheckRequest, CorrectRequest, UsageAnswer, UsageRequest } from './usage.ts'

const fixture = testMetering()
const { clock } = fixture
let keys = 0

const ask = (request: UsageRequest): Promise<UsageAnswer> => fixture.metering().ask(request)
const use = (
  organizationId: string,
  quantity: number,
  idempotencyKey: string,
  verb: 'consume' | 'track' = 'consume',
): UsageRequest => ({
  verb,
  organizationId,
  meter: 'episode_ingestion',
  quantity: BigInt(quantity) * MICRO,
  idempotencyKey,
  occurredAt: null,
  properties: null,
})
const correct = (
  organizationId: string,
  corrects: string,
  quantity: number,
  idempotencyKey = `c${(keys += 1)}`,
): CorrectRequest => ({
  verb: 'correct',
  organizationId,
  corrects,
  quantity: BigInt(quantity) * MICRO,
  idempotencyKey,
  properties: null,
})

test('takes away a part of one, where a meter adds up quantities', async () => {
  const organizationId = await fixture.newOrganization()
  await ask(use(organizationId, 2, 'a'))
  const half = { ...correct(organizationId, 'a', 0), quantity: -MICRO / 2n }
  expect(await ask(half)).toMatchObject({ allowed: true, balance: { used: (3n * MICRO) / 2n } })
})

test('gives back what was counted too much, so that it can be used again', async () => {
  const organizationId = await fixture.newOrganization()
  await ask(use(organizationId, 100, 'a'))
  const corrected = await ask(correct(organizationId, 'a', -40))
  expect(corrected).toMatchObject({ allowed: true, drawn: -40n * MICRO, balance: { used: 60n * MICRO, remaining: 40n * MICRO } })
  expect((await ask(use(organizationId, 40, 'b'))).allowed).toBe(true)
})

test('never takes away more than is counted, also over several corrections', async () => {
  const organizationId = await fixture.newOrganization()
  await ask(use(organizationId, 10, 'a'))
  await ask(correct(organizationId, 'a', -7))
  await expect(ask(correct(organizationId, 'a', -4))).rejects.toMatchObject({ code: 'invalid_quantity' })
  await ask(correct(organizationId, 'a', 2))
  expect((await ask(correct(organizationId, 'a', -5))).balance.used).toBe(0n)
})

test('counts in the period and hour of what it corrects, when that is over too', async () => {
  const organizationId = await fixture.newOrganization()
  await ask(use(organizationId, 50, 'a'))
  const before = clock.now()
  clock.advance(25 * DAY_MS)
  const corrected = await ask(correct(organizationId, 'a', -20))
  expect(corrected.balance).toMatchObject({ periodStart: new Date('2026-03-01T00:00:00Z'), used: 30n * MICRO })
  clock.set(before)
  const { rows } = await fixture.database.db.query(
    `select hour, events::int, (quantity / 1000000)::int as quantity from usage_hourly where organization_id = $1`,
    [organizationId],
  )
  expect(rows).toEqual([{ hour: new Date('2026-03-10T12:00:00Z'), events: 1, quantity: 30 }])
})

test('gives overage back before what was included, and to the grant that paid', async () => {
  const organizationId = await fixture.newOrganization()
  await ask(use(organizationId, 1, 'first'))
  const gift: Grant[] = [
    {
      organizationId,
      id: 'gift',
      balanceKey: 'credits',
      kind: 'promotion',
      planKey: null,
      catalogVersion: null,
      amount: 5n * MICRO,
      limit: 'hard',
      ...UNTOUCHED,
      priority: 30,
      meters: null,
      startsAt: clock.now(),
      expiresAt: null,
      reason: null,
      createdAt: clock.now(),
    },
  ]
  await writeAside(fixture.database.db, (tx) => insertGrants(tx, gift))
  const tracked = await ask(use(organizationId, 110, 'a', 'track'))
  expect(tracked.balance).toMatchObject({ used: 105n * MICRO, overage: 6n * MICRO })
  expect((await ask(correct(organizationId, 'a', -8))).balance).toMatchObject({ used: 103n * MICRO, overage: 0n })
  expect((await ask(correct(organizationId, 'a', -99))).balance).toMatchObject({ used: 4n * MICRO, overage: 0n })
  const { rows } = await fixture.database.db.query(
    `select (used / 1000000)::int as used from grants where organization_id = $1 order by id`,
    [organizationId],
  )
  expect(rows).toEqual([{ used: 3 }, { used: 1 }])
})

test('a repeat answers what the first answered; the same key with another quantity is refused', async () => {
  const organizationId = await fixture.newOrganization()
  await ask(use(organizationId, 10, 'a'))
  const first = await ask(correct(organizationId, 'a', -1, 'c'))
  expect(await ask(correct(organizationId, 'a', -1, 'c'))).toEqual({ ...first, replayed: true })
  await expect(ask(correct(organizationId, 'a', -2, 'c'))).rejects.toMatchObject({
    code: 'idempotency_conflict',
    details: { field: 'quantity' },
  })
})

test.each([
  ['of a correction', -MICRO],
  ['of what is taken back whole', null],
])('the same key with another reason %s is refused; a repeat with the same is answered', async (_name, quantity) => {
  const organizationId = await fixture.newOrganization()
  await ask(use(organizationId, 10, 'a'))
  const given = { ...correct(organizationId, 'a', 0, 'c'), quantity, properties: { reason: 'twice' } }
  const first = await ask(given)
  expect(await ask(given)).toEqual({ ...first, replayed: true })
  await expect(ask({ ...given, properties: { reason: 'another' } })).rejects.toMatchObject({
    code: 'idempotency_conflict',
    details: { field: 'reason' },
  })
})

test.each([
  ['of a correction', null, -MICRO],
  ['of the correction of a use with properties', { reason: 'a property of its own', model: 'large' }, -MICRO],
  ['of what is taken back whole', null, null],
])(
  'the same key without the reason that there was is refused, %s; without any the repeat is one',
  async (_name, properties, quantity) => {
    const organizationId = await fixture.newOrganization()
    await ask({ ...use(organizationId, 10, 'a'), properties } as UsageRequest)
    await ask({ ...use(organizationId, 10, 'b'), properties } as UsageRequest)
    const given = { ...correct(organizationId, 'a', 0, 'c'), quantity, properties: { reason: 'twice' } }
    const first = await ask(given)
    const refusal = { code: 'idempotency_conflict', details: { field: 'reason' } }
    await expect(ask({ ...given, properties: null })).rejects.toMatchObject(refusal)
    // Decided together too, as a batch is.
    const together = await Promise.allSettled([ask(given), ask({ ...given, properties: null })])
    expect(together).toMatchObject([{ value: { ...first, replayed: true } }, { status: 'rejected', reason: refusal }])
    const bare = { ...correct(organizationId, 'b', 0, 'd'), quantity }
    const unexplained = await ask(bare)
    expect(await ask(bare)).toEqual({ ...unexplained, replayed: true })
    await expect(ask({ ...bare, properties: { reason: 'twice' } })).rejects.toMatchObject(refusal)
  },
)

test('of a settlement, too, the reason of a correction is compared', async () => {
  const organizationId = await fixture.newOrganization()
  const { meter, quantity, properties } = { meter: 'episode_ingestion', quantity: 5n * MICRO, properties: { model: 'large' } }
  const held = await ask({ verb: 'reserve', organizationId, meter, quantity, idempotencyKey: 'hold', properties, ttlMs: 60_000 })
  const reservationId = held.reservation!.id
  await ask({ verb: 'settle', organizationId, reservationId, quantity: null })
  const bare = correct(organizationId, reservationId, -1, 'bare')
  const first = await ask(bare)
  expect(await ask(bare)).toEqual({ ...first, replayed: true })
  const given = { ...correct(organizationId, reservationId, -1, 'given'), properties: { reason: 'twice' } }
  await ask(given)
  await expect(ask({ ...given, properties: null })).rejects.toMatchObject({ details: { field: 'reason' } })
})

test('a settlement is corrected by its reservation; what was refused or never recorded cannot be corrected', async () => {
  const organizationId = await fixture.newOrganization()
  const held = await ask({
    verb: 'reserve',
    organizationId,
    meter: 'episode_ingestion',
    quantity: 5n * MICRO,
    idempotencyKey: 'r',
    properties: null,
    ttlMs: 1_000,
  })
  const reservationId = held.reservation!.id
  await expect(ask(correct(organizationId, 'r', -1))).rejects.toMatchObject({ code: 'not_found' })
  await ask({ verb: 'settle', organizationId, reservationId, quantity: null })
  expect((await ask(correct(organizationId, reservationId, -2))).balance.used).toBe(3n * MICRO)
  await ask(use(organizationId, 500, 'refused'))
  await expect(ask(correct(organizationId, 'refused', -1))).rejects.toMatchObject({ code: 'not_found' })
  await expect(ask(correct(organizationId, 'nothing', -1))).rejects.toMatchObject({ code: 'not_found' })
})

test('a use and its corrections may come in one batch', async () => {
  const organizationId = await fixture.newOrganization()
  const outcomes = await fixture
    .metering()
    .submit([
      use(organizationId, 10, 'a'),
      correct(organizationId, 'a', -4),
      correct(organizationId, 'a', -6),
      correct(organizationId, 'a', -1),
    ])
  expect(outcomes.map((outcome) => outcome.kind)).toEqual(['answer', 'answer', 'answer', 'error'])
  expect(await listImbalances(fixture.database.db, 10)).toEqual([])
})

test('a correction, a refusal or a hold is not corrected: the answer says what its key is', async () => {
  const organizationId = await fixture.newOrganization()
  await ask(use(organizationId, 2, 'u1'))
  await ask(correct(organizationId, 'u1', -1, 'fix'))
  await ask({ ...correct(organizationId, 'u1', 0, 'back'), quantity: null })
  await ask(use(organizationId, 1_000_000, 'refused'))
  const { organizationId: of, meter, quantity, properties } = use(organizationId, 1, '') as CheckRequest
  await ask({ verb: 'reserve', organizationId: of, meter, quantity, properties, idempotencyKey: 'hold', ttlMs: DAY_MS })
  await expect(ask(correct(organizationId, 'fix', -1))).rejects.toThrow('"fix" is the key of a correction itself')
  await expect(ask(correct(organizationId, 'back', -1))).rejects.toThrow('correct the use "u1"')
  await expect(ask(correct(organizationId, 'refused', -1))).rejects.toThrow('"refused" was refused (quota_exceeded)')
  await expect(ask(correct(organizationId, 'hold', -1))).rejects.toThrow('"hold" is the key of a reservation')
  await expect(ask(correct(organizationId, 'unheard of', -1))).rejects.toThrow('No use was counted under the key')
})
