import { beforeEach, describe, expect, test } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { keepRow, type Row } from '../../test/rows.ts'
import { writeAside } from '../../test/under-lock.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS } from '../lib/period.ts'
import { listOrganizationsToReport, listWithUseToReport, passOver } from './due-store.ts'

const { db } = testDatabase()
const now = new Date('2026-03-10T12:00:00Z')
const after = (ms: number): Date => new Date(now.getTime() + ms)
const lastLook = after(-HOUR_MS)

const LINE = {
  kind: 'usage',
  subscription_id: 'sub',
  item_id: 'si',
  stripe_price_id: 'overage of calls',
  starts_at: after(-10 * DAY_MS),
  ends_at: after(10 * DAY_MS),
  whole: true,
  quantity: 0,
  balance: 'calls',
  state: 'open',
  collected_at: after(-MINUTE_MS),
  period_start: after(-10 * DAY_MS),
  period_end: after(10 * DAY_MS),
  unit_amount_minor: 0,
}
let lines = 0
const line = (organizationId: string, over: Row = {}) =>
  keepRow(db, 'billing_spans', { organization_id: organizationId, id: `line ${++lines}`, ...LINE, ...over })
const onClock = (id: string, at: Date) =>
  keepRow(db, 'organizations', { id, name: id, email: '', created_at: now, test_clock_now: at })

beforeEach(async () => {
  const tables = ['organizations', 'billing_spans', 'grants', 'reported_grants', 'meter_events', 'usage_prices']
  await writeAside(db, (tx) => tx.query(tables.map((table) => `delete from ${table}`).join(';')))
})

describe('reports are due', () => {
  const listed = (limit = 10) => listOrganizationsToReport(db, { before: lastLook, now, limit })
  const seen = { collected_at: after(-2 * HOUR_MS) }

  test('of who was not looked at for an hour and has a line that takes reports; those first that wait the longest', async () => {
    await line('just', { collected_at: lastLook })
    await line('longer', { collected_at: after(-HOUR_MS - 1) })
    await line('longer', { collected_at: after(-4 * HOUR_MS) })
    await line('long', { collected_at: after(-3 * HOUR_MS) })
    await line('closed', { ...seen, state: 'closed' })
    await line('fee', { ...seen, kind: 'base' })
    await line('late', { ...seen, kind: 'late' })
    expect(await listed()).toEqual(['longer', 'long'])
    expect(await listed(1)).toEqual(['longer'])
  })

  test('of whose line ends within ten minutes, or has ended, and was not looked at for 45 seconds', async () => {
    const ending = { ends_at: after(10 * MINUTE_MS - 1) }
    await line('ending', ending)
    await line('ended', { ends_at: after(-DAY_MS), state: 'closing' })
    await line('later', { ends_at: after(10 * MINUTE_MS) })
    await line('just seen', { ...ending, collected_at: after(-45 * SECOND_MS) })
    await line('fee', { ...ending, kind: 'base' })
    expect((await listed()).toSorted()).toEqual(['ended', 'ending'])
  })

  test('on a test clock by its time, and at once where a line is closing', async () => {
    const present = after(100 * DAY_MS)
    for (const id of ['ending', 'later', 'closing', 'seen']) await onClock(id, present)
    await onClock('behind', after(-DAY_MS))
    const at = (ms: number) => ({ ends_at: new Date(present.getTime() + ms) })
    await line('ending', at(10 * MINUTE_MS - 1))
    await line('later', at(10 * MINUTE_MS))
    await line('closing', { ...at(DAY_MS), state: 'closing' })
    await line('seen', { ...at(0), collected_at: after(-45 * SECOND_MS) })
    await line('behind', { ends_at: now })
    expect((await listed()).toSorted()).toEqual(['closing', 'ending'])
  })
})

describe('there is something to report', () => {
  const GRANT = { balance: 'calls', kind: 'plan', limit_kind: 'soft', amount: 100, used: 100, overage: 5, priority: 50 }
  const grant = (organizationId: string, over: Row = {}) =>
    keepRow(db, 'grants', {
      organization_id: organizationId,
      id: 'grant',
      ...GRANT,
      starts_at: LINE.starts_at,
      expires_at: LINE.ends_at,
      created_at: now,
      ...over,
    })
  const reported = (organizationId: string, counted: number, over: Row = {}) =>
    keepRow(db, 'reported_grants', { organization_id: organizationId, grant_id: 'grant', reports: 'overage', counted, ...over })
  const listed = async (...organizationIds: readonly string[]) => listWithUseToReport(db, { organizationIds, now })
  const price = (stripePriceId: string, reports: string) =>
    keepRow(db, 'usage_prices', {
      stripe_price_id: stripePriceId,
      plan_key: reports,
      balance: 'calls',
      reports,
      event_name: '',
      formula: 'sum',
      currency: 'usd',
      terms: {},
      catalog_version: 1,
      created_at: now,
    })

  beforeEach(async () => {
    await price('overage of calls', 'overage')
    await price('use of calls', 'use')
    for (const id of ['acme', 'other', 'third']) await keepRow(db, 'organizations', { id, name: id, email: '', created_at: now })
  })

  test('where a grant has counted more than was reported, of what its line bills', async () => {
    for (const id of ['acme', 'other', 'third']) await line(id)
    await grant('acme')
    await reported('acme', 4)
    await grant('other')
    await reported('other', 5)
    await grant('third', { overage: 0 })
    expect(await listed('other', 'third', 'acme')).toEqual(['acme'])
    expect(await listed('other', 'third')).toEqual([])
    await line('third', { stripe_price_id: 'use of calls' })
    expect(await listed('third', 'acme')).toEqual(['acme', 'third'])
    await reported('third', 100, { reports: 'use' })
    expect(await listed('third')).toEqual([])
  })

  test('where it has counted less, after use was taken back, whatever its lines are now', async () => {
    await grant('acme')
    await grant('acme', { id: 'second', overage: 9 })
    await reported('acme', 3)
    await reported('acme', 3, { span_id: 'line 2' })
    await grant('other')
    await reported('other', 5)
    expect(await listed('acme', 'other')).toEqual(['acme'])
  })

  test('not where no line of the balance takes reports', async () => {
    await grant('acme')
    for (const over of [{ state: 'closed' }, { kind: 'base' }, { kind: 'late' }, { balance: 'seats' }]) await line('acme', over)
    expect(await listed('acme')).toEqual([])
  })

  test('not of a grant that ended seventy days ago, by the clock of its organization', async () => {
    const old = 70 * DAY_MS
    const long = { starts_at: after(-2 * old), ends_at: after(old) }
    await line('acme', long)
    await grant('acme', { starts_at: after(-2 * old), expires_at: after(-old) })
    await grant('other', { overage: 0, starts_at: after(-2 * old), expires_at: after(-old) })
    await reported('other', 1)
    expect(await listed('acme', 'other')).toEqual([])
    await db.query(`update organizations set test_clock_now = $1`, [after(-1)])
    expect(await listed('acme', 'other')).toEqual(['acme', 'other'])
  })

  test('where a report was made that never left before its line was closed', async () => {
    const EVENT = {
      event_name: '',
      formula: '',
      customer_id: 'cus',
      quantity: 1,
      value: 1,
      at: now,
      late: false,
      created_at: now,
    }
    const event = (identifier: string, over: Row) =>
      keepRow(db, 'meter_events', { organization_id: 'acme', identifier, span_id: 'closed', state: 'pending', ...EVENT, ...over })
    await line('acme', { id: 'closed', state: 'closed' })
    await line('acme', { id: 'open' })
    await line('other', { id: 'closed', state: 'open' })
    await event('sent', { state: 'sent' })
    await event('tried', { attempts: 1 })
    await event('waiting', { span_id: 'open' })
    await event('theirs', { organization_id: 'other' })
    expect(await listed('acme', 'other')).toEqual([])
    await event('left', {})
    expect(await listed('acme', 'other')).toEqual(['acme'])
  })
})

test('who is passed over was looked at now: their lines that take reports, but for those that somebody holds', async () => {
  for (const organization of ['acme', 'other']) await line(organization, { id: 'open' })
  for (const [id, over] of Object.entries({
    closing: { state: 'closing' },
    closed: { state: 'closed' },
    fee: { kind: 'base' },
  })) {
    await line('acme', { id, ...over })
  }
  await line('acme', { id: 'held' })
  await db.transaction(async (tx) => {
    await tx.query(`select from billing_spans where id = 'held' for update`)
    await db.transaction(async (other) => {
      await other.query(`set local lock_timeout = '1s'`)
      await passOver(other, { organizationIds: ['acme'], now })
    })
  })
  const { rows } = await db.query<{ name: string }>(
    `select organization_id || ' ' || id as name from billing_spans where collected_at = $1 order by 1`,
    [now],
  )
  expect(rows.map(({ name }) => name)).toEqual(['acme closing', 'acme open'])
})
