import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { PATIENCE } from '../../test/patience.ts'
import { testMetering } from '../../test/metering.ts'
import type { PacketClient } from '../db/packet.ts'
import { openUsageConnections, type UsageConnections } from '../metering/write/pipeline.ts'
import { AccountsChanged, lockAndKeepAccounts, lockKnownAccounts } from './known-accounts.ts'
import { insertMissingAccounts, type AccountRow } from './store.ts'

const fixture = testMetering()

let one: UsageConnections
beforeAll(() => {
  one = openUsageConnections({ connectionString: fixture.database.url, size: 1 })
})
afterAll(() => one.close())

function onOneConnection<Result>(work: (tx: PacketClient) => Promise<Result>): Promise<Result> {
  return one.transaction(async (tx) => ({ result: await work(tx), send: () => [] }))
}

async function newAccounts(count: number): Promise<string[]> {
  const ids = await Promise.all(Array.from({ length: count }, () => fixture.newOrganization()))
  const terms = { planKey: 'free', catalogVersion: fixture.catalogs().current.version, now: fixture.clock.now() }
  await insertMissingAccounts(fixture.database.db, ids, terms)
  return ids.toSorted()
}

const change = (sql: string, id: string) => fixture.database.db.query(sql, [id])

/** What a group sees: the accounts as they are known or, where one is not, as they are read then, of several by its next attempt. */
async function lockAgain(ids: readonly string[]): Promise<{ readonly known: boolean; readonly accounts: readonly AccountRow[] }> {
  const attempt = () =>
    onOneConnection(async (tx) => {
      const accounts = await lockKnownAccounts(tx, ids)
      return accounts.length > 0 ? { known: true, accounts } : { known: false, accounts: await lockAndKeepAccounts(tx, ids) }
    })
  try {
    return await attempt()
  } catch (error) {
    if (!(error instanceof AccountsChanged)) throw error
    return { ...(await attempt()), known: false }
  }
}

test('rows that nobody changed are not read again, and are what they were', async () => {
  const ids = await newAccounts(12)
  const first = await onOneConnection((tx) => lockKnownAccounts(tx, ids))
  expect(first.map(({ organizationId }) => organizationId)).toEqual(ids)
  const again = await lockAgain(ids)
  expect(again).toEqual({ known: true, accounts: first })
  expect(again.accounts[0]).toBe(first[0])
})

describe.each([1, 3])('of %i', (count) => {
  test.each([
    ['its plan', `update accounts set plan_key = 'pro' where organization_id = $1`, { planKey: 'pro' }],
    [
      'its test clock',
      `update organizations set test_clock_now = '2030-01-01Z' where id = $1`,
      { testClockNow: new Date('2030-01-01Z') },
    ],
    ['its zone', `update organizations set time_zone = 'Asia/Tokyo' where id = $1`, { timeZone: 'Asia/Tokyo' }],
    [
      'its beginning',
      `update organizations set created_at = '2020-01-01Z' where id = $1`,
      { organizationCreatedAt: new Date('2020-01-01Z') },
    ],
  ])('an account is read again after %s has changed', async (_what, sql, expected) => {
    const ids = await newAccounts(count)
    await onOneConnection((tx) => lockKnownAccounts(tx, ids))
    await change(sql, ids.at(-1)!)
    const { known, accounts } = await lockAgain(ids)
    expect(known).toBe(false)
    expect(accounts.map(({ organizationId }) => organizationId)).toEqual(ids)
    expect(accounts.at(-1)).toMatchObject(expected)
    expect((await lockAgain(ids)).known).toBe(true)
  })
})

test.each([1, 2])('an account that changes while its lock is waited for is read as it is then, of %i', async (count) => {
  const ids = await newAccounts(count)
  await onOneConnection((tx) => lockKnownAccounts(tx, ids))
  let waiting: ReturnType<typeof lockAgain> | undefined
  await fixture.database.db.transaction(async (tx) => {
    await tx.query(`update accounts set plan_key = 'pro' where organization_id = $1`, [ids.at(-1)])
    waiting = lockAgain(ids)
    await vi.waitUntil(async () => {
      const { rows } = await fixture.database.db.query('select 1 from pg_locks where not granted')
      return rows.length > 0
    })
  })
  const { known, accounts } = await waiting!
  expect(known).toBe(false)
  expect(accounts.at(-1)).toMatchObject({ planKey: 'pro' })
})

test('where one is not as it was known, no other stays locked while it is waited for: accounts are locked in one order', async () => {
  const ids = await newAccounts(2)
  await onOneConnection((tx) => lockKnownAccounts(tx, ids))
  await change(`update accounts set plan_key = 'pro' where organization_id = $1`, ids[0]!)
  const waiting = await fixture.database.db.transaction(async (tx) => {
    await tx.query('select from accounts where organization_id = $1 for no key update', [ids[0]])
    const locked = lockAgain(ids)
    await vi.waitUntil(async () => {
      const { rows } = await fixture.database.db.query('select 1 from pg_locks where not granted')
      return rows.length > 0
    })
    await tx.query('select from accounts where organization_id = $1 for no key update nowait', [ids[1]])
    return { locked }
  })
  expect((await waiting.locked).accounts[0]).toMatchObject({ planKey: 'pro' })
})

test.each([1, 2])('what is known is locked, of %i: nobody changes it before the transaction ends', async (count) => {
  const ids = await newAccounts(count)
  await onOneConnection((tx) => lockKnownAccounts(tx, ids))
  await onOneConnection(async (tx) => {
    expect((await lockKnownAccounts(tx, ids)).length).toBe(count)
    await expect(
      change(`select 1 from accounts where organization_id = $1 for no key update nowait`, ids.at(-1)!),
    ).rejects.toThrow('could not obtain lock')
  })
})

test('rows that have moved within their table are found again', async () => {
  const ids = await newAccounts(5)
  const before = await onOneConnection((tx) => lockKnownAccounts(tx, ids))
  await fixture.database.db.query('cluster accounts using accounts_pkey')
  expect((await lockAgain(ids)).accounts).toEqual(before)
})

test('another row in the place of one that is gone is not taken for it', async () => {
  const ids = await newAccounts(2)
  const placesOf = async () =>
    (await fixture.database.db.query('select ctid from accounts where organization_id = any ($1)', [ids])).rows
  await fixture.database.db.query('truncate accounts')
  const terms = { catalogVersion: fixture.catalogs().current.version, now: fixture.clock.now() }
  await insertMissingAccounts(fixture.database.db, ids, { ...terms, planKey: 'free' })
  await onOneConnection((tx) => lockKnownAccounts(tx, ids))
  const before = await placesOf()
  await fixture.database.db.query('truncate accounts')
  await insertMissingAccounts(fixture.database.db, ids, { ...terms, planKey: 'pro' })
  expect(await placesOf()).toEqual(before)
  expect((await lockAgain(ids)).accounts).toMatchObject([{ planKey: 'pro' }, { planKey: 'pro' }])
})

test('an account that was written by a transaction that failed is not known', async () => {
  const id = await fixture.newOrganization()
  const terms = { planKey: 'pro', catalogVersion: fixture.catalogs().current.version, now: fixture.clock.now() }
  await expect(
    onOneConnection(async (tx) => {
      await insertMissingAccounts(tx, [id], terms)
      expect((await lockKnownAccounts(tx, [id]))[0]).toMatchObject({ planKey: 'pro' })
      throw new Error('given up')
    }),
  ).rejects.toThrow('given up')
  expect(await lockAgain([id])).toEqual({ known: false, accounts: [] })
})

test('what was read after waiting for a change of the organization is what it was changed to', async () => {
  const [id] = (await newAccounts(1)) as [string]
  const { db } = fixture.database
  const { promise: told, resolve: tell } = Promise.withResolvers<void>()
  const { promise: changed, resolve: leave } = Promise.withResolvers<void>()
  const changing = db.transaction(async (tx) => {
    await tx.query(`update organizations set time_zone = 'Asia/Tokyo' where id = $1`, [id])
    tell()
    await changed
  })
  await told
  const reading = onOneConnection((tx) => lockKnownAccounts(tx, [id]))
  await vi.waitFor(async () => {
    const waiting = `select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`
    expect((await db.query(waiting)).rows).toHaveLength(1)
  }, PATIENCE)
  leave()
  await changing
  expect(await reading).toMatchObject([{ timeZone: 'Asia/Tokyo' }])
  expect(await lockAgain([id])).toMatchObject({ known: true, accounts: [{ timeZone: 'Asia/Tokyo' }] })
})
