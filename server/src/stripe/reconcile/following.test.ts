import { expect, test } from 'vitest'
import { testDatabase } from '../../../test/database.ts'
import { EVENTS_LISTED_UNTIL } from '../inbox/inbox-store.ts'
import { readFollowing } from './following-store.ts'

const database = testDatabase()
const NOTHING_LEFT = {
  'paid_change.overtaken': 0,
  'scheduled_change.lost': 0,
  'invoice_item.left_out': 0,
  'stripe_call.given_up': 0,
}
const NOW = new Date('2026-03-10T12:00:00Z')

test('says how many events wait too long or were given up, and when Stripe was last asked for others', async () => {
  const { db } = database
  expect(await readFollowing(db, NOW)).toEqual({
    eventsOverdue: 0,
    eventsFailed: 0,
    lookAgeSeconds: null,
    comparisonAgeSeconds: null,
    disputesOpen: 0,
    leftToOperators: NOTHING_LEFT,
  })
  await db.query(
    `insert into stripe_events (event_id, type, object_type, livemode, payload, source, stripe_created_at, received_at, next_attempt_at,
       handled_at, parked_at)
     select 'evt_' || n, 'customer.updated', 'customer', false, '{}', 'webhook', $1::timestamptz, $1, $1::timestamptz - n * interval '2 minutes',
       case when n = 5 then $1::timestamptz end, case when n = 4 then $1::timestamptz end from generate_series(1, 5) n`,
    [NOW],
  )
  await db.query('insert into settings (name, value) values ($1, $2)', [EVENTS_LISTED_UNTIL, '2026-03-10T11:00:00.000Z'])
  // 2 and 4 minutes are not too long, 6 are, 8 was given up, 10 is handled.
  expect(await readFollowing(db, NOW)).toEqual({
    eventsOverdue: 1,
    eventsFailed: 1,
    lookAgeSeconds: 3600,
    comparisonAgeSeconds: null,
    disputesOpen: 0,
    leftToOperators: NOTHING_LEFT,
  })
})

test('tells how old the last whole comparison is, and goes on counting while the next one does not come to its end', async () => {
  const { db } = database
  const begin = (hoursAgo: number, isFinished: boolean) =>
    db.query(
      `insert into stripe_reconciliations (started_at, list, updated_at, finished_at)
       select at, 'customers', at, case when $3 then at end from (select $1::timestamptz - $2 * interval '1 hour' as at) begun`,
      [NOW, hoursAgo, isFinished],
    )
  await begin(50, true)
  await begin(26, true)
  expect((await readFollowing(db, NOW)).comparisonAgeSeconds).toBe(26 * 3600)
  await begin(2, false)
  expect((await readFollowing(db, NOW)).comparisonAgeSeconds).toBe(26 * 3600)
  await db.query('delete from stripe_reconciliations where finished_at is not null')
  expect((await readFollowing(db, NOW)).comparisonAgeSeconds).toBe(2 * 3600)
})

test('says what was left to operators in the last seven days, by kind', async () => {
  const { db } = database
  await db.query(`insert into organizations (id, name, email, created_at) values ('left', 'Left', 'left@example.com', $1)`, [NOW])
  await db.query(
    `insert into billing_events (organization_id, key, kind, data, occurred_at, recorded_at)
     select 'left', kind || days, kind, '{}', $1, $1::timestamptz - days * interval '1 day'
     from unnest(array['paid_change.overtaken', 'invoice_item.left_out', 'invoice.paid']) kind, unnest(array[1, 6, 8]) days`,
    [NOW],
  )
  const expected = { ...NOTHING_LEFT, 'paid_change.overtaken': 2, 'invoice_item.left_out': 2 }
  expect((await readFollowing(db, NOW)).leftToOperators).toEqual(expected)
})
