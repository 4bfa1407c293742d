import type { Queryable } from '../db/database.ts'
import { planGrantId, type Draw, type Grant, type GrantChange } from '../grants/rules.ts'
import { ACTIVE_GRANTS, ADD_TO_GRANTS, GRANT_COLUMNS, grantChangesJson, grantOf, type GrantRow } from '../grants/store.ts'
import type { Instant } from '../lib/clock.ts'
import { copyRows, type CopyRow, type CopyTarget } from './copy.ts'
import type { PacketClient } from '../db/packet.ts'
import type { HourlyChange } from './rollups.ts'
import type { BalanceSnapshot, Reservation, UsageEvent } from './usage.ts'

/** What one look at the database answers, all of it under the accounts' locks. */
export type FoundGrants = {
  readonly grants: readonly Grant[]
  /** How many of the keys were used before. */
  readonly known: number
}

/**
 * Reads the grants that count now and looks whether keys were used before, in one statement. Under their organization's lock
 * nobody else adds keys, so a look is enough: claiming them with `on conflict do nothing` cost PostgreSQL 320 µs for 32 keys
 * and 4.2 ms for 500; looking and inserting afterwards 210 µs and 2.3 ms.
 */
export async function findGrantsAndKnownKeys(
  tx: Queryable,
  organizationIds: readonly string[],
  keys: readonly EventKey[],
  now: Instant,
): Promise<FoundGrants> {
  const byOrganization = Map.groupBy(keys, (key) => key.organizationId)
  const found = await tx.query<GrantRow & { readonly known: number }>({
    name: 'find_grants_and_known_keys',
    // One look per organization with all of its keys: the index is then read once for neighbours (500 keys: 0.1 ms, else 0.9).
    text: `with known as (
        select count(*)::int as known from unnest($3::text[], $4::text[]) as asked (organization_id, keys)
        cross join lateral (
          select 1 from usage_keys k
          where k.organization_id = asked.organization_id and k.idempotency_key = any (asked.keys::text[]) offset 0
        ) as k
      ), active as (select g.* from ${ACTIVE_GRANTS})
      select known.known, ${GRANT_COLUMNS} from known left join active g on true`,
    values: [
      organizationIds,
      now,
      [...byOrganization.keys()],
      [...byOrganization.values()].map((own) => own.map((key) => key.idempotencyKey)),
    ],
  })
  return {
    known: found.rows[0]!.known,
    // Without any grant there is one row that says only how many were known.
    grants: found.rows.flatMap(({ known: _known, ...row }) => (row.id === null ? [] : [grantOf(row)])),
  }
}

/** Keeps the keys of new events; the caller has looked whether they were used before. */
export async function insertKeys(tx: Queryable, events: readonly UsageEvent[]): Promise<void> {
  await tx.query({
    name: 'insert_keys',
    text: `insert into usage_keys (organization_id, idempotency_key, recorded_at, event_id)
      select o, k, $2, e from json_to_recordset($1) as c (o text, k text, e uuid)`,
    // Names of one letter: they are sent once per row.
    values: [
      JSON.stringify(events.map(({ organizationId, idempotencyKey, id }) => ({ o: organizationId, k: idempotencyKey, e: id }))),
      events[0]!.recordedAt,
    ],
  })
}

/** `[grant, amount, overage]` as jsonb. */
export type StoredDraw = readonly [string, string, string]

export type EventRow = Omit<UsageEvent, 'draws' | 'after'> &
  Omit<BalanceSnapshot, 'amount' | 'used' | 'overage' | 'reserved' | 'remaining' | 'planGrantId'> & {
    readonly planGrant: string | null
    readonly draws: readonly StoredDraw[] | null
    readonly afterAmount: bigint | null
    readonly afterUsed: bigint
    readonly afterOverage: bigint
    readonly afterReserved: bigint
  }

export const EVENT_COLUMNS = `e.organization_id as "organizationId", e.id, e.recorded_at as "recordedAt", e.verb,
  e.idempotency_key as "idempotencyKey", e.meter, e.quantity, e.occurred_at as "occurredAt", e.dated, e.late, e.properties, e.counted,
  e.drawn, e.overage, e.draws, e.refusal, e.reservation_id as "reservationId", e.held_until as "heldUntil", e.corrects,
  e.balance as "balanceKey", e.plan_key as "planKey", e.period, e.period_start as "periodStart", e.period_end as "periodEnd",
  e.plan_grant as "planGrant", e.after_amount as "afterAmount", e.after_used as "afterUsed", e.after_overage as "afterOverage",
  e.after_reserved as "afterReserved"`

export type EventKey = { readonly organizationId: string; readonly idempotencyKey: string }

/** The events of keys. */
export async function findEventsOfKeys(tx: Queryable, keys: readonly EventKey[]): Promise<readonly UsageEvent[]> {
  const found = await tx.query<EventRow>(
    `select ${EVENT_COLUMNS} from unnest($1::text[], $2::text[]) as c (organization_id, idempotency_key)
     join usage_keys k on k.organization_id = c.organization_id and k.idempotency_key = c.idempotency_key
     join usage_events e on e.organization_id = k.organization_id and e.recorded_at = k.recorded_at and e.id = k.event_id`,
    [keys.map((key) => key.organizationId), keys.map((key) => key.idempotencyKey)],
  )
  return found.rows.map(eventOf)
}

/** The events of keys, and the settlements of reservations whose id is given as a key. */
export async function findEventsByKey(tx: Queryable, keys: readonly EventKey[]): Promise<readonly UsageEvent[]> {
  const found = await tx.query<EventRow>(
    `select ${EVENT_COLUMNS}
     from unnest($1::text[], $2::text[]) as c (organization_id, idempotency_key)
     cross join lateral (
       select k.recorded_at, k.event_id from usage_keys k
       where k.organization_id = c.organization_id and k.idempotency_key = c.idempotency_key
       union all
       select r.settled_recorded_at, r.settled_event_id from reservations r
       where r.organization_id = c.organization_id and r.id = c.idempotency_key and r.settled_event_id is not null
     ) as k
     join usage_events e on e.organization_id = c.organization_id and e.recorded_at = k.recorded_at and e.id = k.event_id`,
    [keys.map((key) => key.organizationId), keys.map((key) => key.idempotencyKey)],
  )
  return found.rows.map(eventOf)
}

/** The events that settled reservations. */
export async function findSettlements(tx: Queryable, reservations: readonly Reservation[]): Promise<readonly UsageEvent[]> {
  const settled = reservations.filter((reservation) => reservation.settledEventId !== null)
  if (settled.length === 0) return []
  const found = await tx.query<EventRow>(
    `select ${EVENT_COLUMNS} from unnest($1::text[], $2::timestamptz[], $3::uuid[]) as s (organization_id, recorded_at, id)
     join usage_events e on e.organization_id = s.organization_id and e.recorded_at = s.recorded_at and e.id = s.id`,
    [
      settled.map((reservation) => reservation.organizationId),
      settled.map((reservation) => reservation.settledRecordedAt),
      settled.map((reservation) => reservation.settledEventId),
    ],
  )
  return found.rows.map(eventOf)
}

export function eventOf(row: EventRow): UsageEvent {
  const {
    draws,
    balanceKey,
    planKey,
    period,
    periodStart,
    periodEnd,
    planGrant,
    afterAmount,
    afterUsed,
    afterOverage,
    afterReserved,
    ...rest
  } = row
  const planGrantId = planGrant ?? usualPlanGrantId(row)
  return {
    ...rest,
    draws: draws === null ? planDraws(row, planGrantId) : drawsOf(draws),
    after: {
      balanceKey,
      planGrantId,
      planKey,
      amount: afterAmount,
      used: afterUsed,
      overage: afterOverage,
      reserved: afterReserved,
      remaining: afterAmount === null ? null : afterAmount - afterUsed - afterReserved,
      period,
      periodStart,
      periodEnd,
    },
  }
}

/** The plan's allowance that a period names by its start; in another time zone than UTC it has a name of its own. */
const usualPlanGrantId = ({ balanceKey, period, periodStart }: Pick<BalanceSnapshot, 'balanceKey' | 'period' | 'periodStart'>) =>
  planGrantId(balanceKey, period, periodStart)

/** The draws of an event that took everything from the plan's allowance, which is most of them. */
function planDraws({ drawn, overage }: EventRow, grantId: string): Draw[] {
  return drawn === 0n ? [] : [{ grantId, amount: drawn - overage, overage }]
}

function isPlanDrawAlone({ draws, after }: UsageEvent): boolean {
  const [only] = draws
  return draws.length === 0 || (draws.length === 1 && only?.grantId === after.planGrantId)
}

/** Draws as they were read. */
export function drawsOf(stored: readonly StoredDraw[]): readonly Draw[] {
  return stored.map(([grantId, amount, overage]) => ({ grantId, amount: BigInt(amount), overage: BigInt(overage) }))
}

/** Draws as they are stored. */
export function storedDraws(draws: readonly Draw[]): readonly StoredDraw[] {
  return draws.map(({ grantId, amount, overage }) => [grantId, amount.toString(), overage.toString()])
}

const EVENT_TARGET: CopyTarget = {
  table: 'usage_events',
  columns: {
    organization_id: 'text',
    recorded_at: 'timestamptz',
    id: 'uuid',
    verb: 'text',
    idempotency_key: 'text',
    meter: 'text',
    quantity: 'bigint',
    occurred_at: 'timestamptz',
    dated: 'boolean',
    late: 'boolean',
    properties: 'jsonb',
    counted: 'bigint',
    drawn: 'bigint',
    overage: 'bigint',
    draws: 'jsonb',
    refusal: 'text',
    reservation_id: 'text',
    held_until: 'timestamptz',
    corrects: 'text',
    balance: 'text',
    plan_key: 'text',
    period: 'text',
    period_start: 'timestamptz',
    period_end: 'timestamptz',
    plan_grant: 'text',
    after_amount: 'bigint',
    after_used: 'bigint',
    after_overage: 'bigint',
    after_reserved: 'bigint',
  },
}

/**
 * Stores what was decided. `copy` costs PostgreSQL half of what an `insert … select from json_to_recordset` costs
 * (10 µs against 20 µs a row of this width, docs/decisions/0011-group-commit.md).
 */
export function insertEvents(tx: PacketClient, events: readonly UsageEvent[]): Promise<void> {
  return copyRows(tx, EVENT_TARGET, events.map(toCopiedEvent))
}

function toCopiedEvent(event: UsageEvent): CopyRow {
  const { after } = event
  return [
    event.organizationId,
    event.recordedAt,
    event.id,
    event.verb,
    event.idempotencyKey,
    event.meter,
    event.quantity,
    event.occurredAt,
    event.dated,
    event.late,
    event.properties && JSON.stringify(event.properties),
    event.counted,
    event.drawn,
    event.overage,
    isPlanDrawAlone(event) ? null : JSON.stringify(storedDraws(event.draws)),
    event.refusal,
    event.reservationId,
    event.heldUntil,
    event.corrects,
    after.balanceKey,
    after.planKey,
    after.period,
    after.periodStart,
    after.periodEnd,
    after.planGrantId === usualPlanGrantId(after) ? null : after.planGrantId,
    after.amount,
    after.used,
    after.overage,
    after.reserved,
  ]
}

/**
 * Adds to the counters of grants and to the hourly sums from which every report is made, in one statement. The table's own
 * check refuses what would overdraw a grant, whatever the caller believed.
 */
export async function addUse(tx: Queryable, grants: readonly GrantChange[], hours: readonly HourlyChange[]): Promise<void> {
  await tx.query({
    name: 'add_use',
    text: `with added as (${ADD_TO_GRANTS})
      insert into usage_hourly as u (organization_id, meter, hour, events, quantity, drawn, overage)
      select o, m, h, e, q, d, x from json_to_recordset($2)
        as c (o text, m text, h timestamptz, e bigint, q bigint, d bigint, x bigint)
      on conflict (organization_id, meter, hour) do update set events = u.events + excluded.events,
        quantity = u.quantity + excluded.quantity, drawn = u.drawn + excluded.drawn, overage = u.overage + excluded.overage`,
    values: [grantChangesJson(grants), JSON.stringify(hours.map(toHourRow))],
  })
}

function toHourRow({ organizationId, meter, hour, events, quantity, drawn, overage }: HourlyChange): Record<string, unknown> {
  return { o: organizationId, m: meter, h: hour, e: events, q: quantity.toString(), d: drawn.toString(), x: overage.toString() }
}

/** Forgets keys that were used before a time, a part at a time so that no lock is held long; answers how many. */
export async function deleteKeysBefore(db: Queryable, before: Instant, limit: number): Promise<number> {
  const deleted = await db.query(
    `delete from usage_keys where ctid = any (array(select ctid from usage_keys where recorded_at < $1 limit $2))`,
    [before, limit],
  )
  return deleted.rowCount ?? 0
}
