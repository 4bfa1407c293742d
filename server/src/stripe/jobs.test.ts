import { expect, test } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { DAY_MS } from '../lib/period.ts'
import { insertEvents, readPayload } from './inbox/inbox-store.ts'
import { pruneStripe } from './jobs.ts'

const database = testDatabase()
const NOW = new Date('2026-03-10T12:00:00Z')
const clock = { now: () => NOW }

const ENVELOPE = {
  type: 'customer.updated',
  livemode: false,
  createdAt: NOW,
  objectType: 'customer',
  objectId: 'cus_a',
  customerId: 'cus_a',
}

const idsOf = async (statement: string) => {
  const { rows } = await database.db.query<{ id: string }>(statement)
  return rows.map(({ id }) => id)
}

test('handled events are forgotten after their days, in batches; what waits or was given up stays', async () => {
  const { db } = database
  await db.query(
    `insert into stripe_events (event_id, type, object_type, livemode, payload, source, stripe_created_at, received_at, next_attempt_at,
       handled_at, outcome, parked_at)
     select 'evt_' || kind || '_' || n, 'customer.updated', 'customer', false, '{}', 'webhook', at, at, at,
       case when kind in ('handled', 'recent') then at end, case when kind in ('handled', 'recent') then 'applied' end,
       case when kind = 'failed' then at end
     from (values ('handled', 2500, 36), ('recent', 1, 34), ('waiting', 1, 36), ('failed', 1, 36)) kinds (kind, many, days),
     lateral (select $1::timestamptz - days * interval '1 day' as at) age, generate_series(1, many) n`,
    [NOW],
  )
  await pruneStripe({ db, clock, eventDays: 35 })
  expect(await idsOf('select event_id as id from stripe_events order by 1')).toEqual([
    'evt_failed_1',
    'evt_recent_1',
    'evt_waiting_1',
  ])
})

test('what events brought is forgotten with the last of them that was stored in the same piece', async () => {
  const { db } = database
  const store = async (ids: readonly string[], days: number): Promise<void> => {
    const events = ids.map((id) => ({
      envelope: { ...ENVELOPE, id },
      payload: Buffer.from(`{"id":"${id}"}`),
      source: 'webhook' as const,
    }))
    await insertEvents(db, events, new Date(NOW.getTime() - days * DAY_MS))
  }
  await store(['evt_gone_a', 'evt_gone_b'], 36)
  await store(['evt_half_a', 'evt_half_b'], 36)
  await store(['evt_young'], 34)
  await db.query(`update stripe_events set handled_at = received_at where payload_id is not null and event_id <> 'evt_half_b'`)
  await pruneStripe({ db, clock, eventDays: 35 })
  expect(await idsOf('select event_id as id from stripe_events where payload_id is not null order by 1')).toEqual([
    'evt_half_b',
    'evt_young',
  ])
  expect(await idsOf('select id from stripe_event_payloads')).toHaveLength(2)
  expect(String(await readPayload(db, 'evt_half_b'))).toBe('{"id":"evt_half_b"}')
})

test('intents and drifts are history for 400 days; an intent whose end is not known stays', async () => {
  const { db } = database
  await db.query(`insert into organizations (id, name, email, created_at) values ('acme', 'Acme', 'a@example.com', now())`)
  await db.query(
    `insert into stripe_intents (organization_id, id, kind, params, idempotency_key, state, created_at, finished_at)
     select 'acme', state || '_' || days, 'pay_invoice', '{}', state || days, state, at, case when state <> 'pending' then at end
     from (values ('succeeded', 401), ('succeeded', 399), ('pending', 401)) kinds (state, days),
     lateral (select $1::timestamptz - days * interval '1 day' as at) age`,
    [NOW],
  )
  await db.query(
    `insert into stripe_drifts (organization_id, object_type, object_id, field, found_at)
     select 'acme', 'invoice', 'in_' || days, 'status', $1::timestamptz - days * interval '1 day' from unnest(array[401, 399]) days`,
    [NOW],
  )
  await pruneStripe({ db, clock, eventDays: 35 })
  expect(await idsOf('select id from stripe_intents order by 1')).toEqual(['pending_401', 'succeeded_399'])
  expect(await idsOf('select object_id as id from stripe_drifts')).toEqual(['in_399'])
})

test('finds what is to be forgotten by an index, among any number that is not', async () => {
  const { db } = database
  await db.query(
    `insert into stripe_intents (id, kind, params, idempotency_key, state, created_at, finished_at)
     select 'many_' || i, 'create_customer', '{}', 'many_' || i, 'succeeded', now(), now() from generate_series(1, 5000) i`,
  )
  await db.query('analyze stripe_intents')
  const { rows } = await db.query<Record<string, string>>(
    `explain select ctid from stripe_intents where finished_at < now() - interval '400 days' limit 1000`,
  )
  expect(rows.map((row) => row['QUERY PLAN']).join(' ')).toContain('stripe_intents_finished')
})
