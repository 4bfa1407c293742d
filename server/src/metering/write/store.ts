import pg from 'pg'
import type { Queryable } from '../../db/database.ts'
import type { PacketClient } from '../../db/packet.ts'
import { planGrantId, type Draw, type GrantChange } from '../../grants/rules.ts'
import { ADD_TO_GRANTS, grantChangeColumns } from '../../grants/store.ts'
import type { Instant } from '../../lib/clock.ts'
import type { HourlyChange } from '../decide/rollups.ts'
import type { BalanceSnapshot, Reservation, UsageEvent } from '../usage.ts'
import { copyRows, type CopyRow, type CopyTarget } from './copy.ts'
import { withSpending } from './spend-refusals-store.ts'

/**
 * How many of the keys were used before: under their organization's lock, whatever was answered is there. Should a group that does not look
 * be about to keep one of them, the index lets one of both have it. Claiming keys with `on conflict do nothing` instead cost PostgreSQL
 * 320 µs for 32 keys and 4.2 ms for 500; looking and inserting afterwards 210 µs and 2.3 ms.
 */
export async function countKnownKeys(tx: Queryable, keys: readonly EventKey[]): Promise<number> {
  const byOrganization = Map.groupBy(keys, (key) => key.organizationId)
  const found = await tx.query<{ readonly known: number }>({
    name: 'count_known_keys',
    // One look per organization with all of its keys: the index is then read once for neighbours (500 keys: 0.1 ms, else 0.9).
    text: `select count(*)::int as known from unnest($1::text[], $2::text[]) as asked (organization_id, keys)
      cross join lateral (
        select 1 from usage_keys k
        where k.organization_id = asked.organization_id and k.idempotency_key = any (asked.keys::text[]) offset 0
      ) as k`,
    values: [[...byOrganization.keys()], [...byOrganization.values()].map((own) => own.map((key) => key.idempotencyKey))],
  })
  return found.rows[0]!.known
}

const KEY_TARGET: CopyTarget = {
  table: 'usage_keys',
  columns: { organization_id: 'text', idempotency_key: 'text', recorded_at: 'timestamptz' },
}

/**
 * Keeps keys, each once; fails with `isRepeatedKey` when one was used before. In one order everywhere: two transactions that keep the same
 * keys then wait for each other in turn, and never in a circle.
 */
export function insertKeys(tx: PacketClient, keys: readonly EventKey[], recordedAt: Instant): Promise<void> {
  const ordered = keys.toSorted(byKey)
  const rows: CopyRow[] = []
  ordered.forEach((key, index) => {
    if (index === 0 || byKey(ordered[index - 1]!, key) !== 0) rows.push([key.organizationId, key.idempotencyKey, recordedAt])
  })
  return copyRows(tx, KEY_TARGET, rows)
}

function byKey(a: EventKey, b: EventKey): number {
  if (a.idempotencyKey !== b.idempotencyKey) return a.idempotencyKey < b.idempotencyKey ? -1 : 1
  return a.organizationId === b.organizationId ? 0 : a.organizationId < b.organizationId ? -1 : 1
}

/** Whether a write failed because a key was used before. */
export function isRepeatedKey(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === UNIQUE_VIOLATION && error.table === KEY_TARGET.table
}

const UNIQUE_VIOLATION = '23505'

/** `[grant, amount, overage]` as jsonb. */
export type StoredDraw = readonly [string, string, string]

export type EventRow = Omit<UsageEvent, 'draws' | 'after' | 'spending'> &
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

// What an event drew from its plan's allowance alone is not written out: its period names the grant.
export const PLAN_GRANT = `coalesce(e.plan_grant,
  'plan:' || e.balance || ':' || e.period || ':' || to_char(e.period_start at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))`

export type EventKey = { readonly organizationId: string; readonly idempotencyKey: string }

// Each block is taken apart once, however many of its events are asked for: a batch of 500 that is sent again names 500 keys of one block.
// A settlement is not found by its key: that is a reservation's id, which may be somebody's key as well.
const EVENTS_OF_KEYS = `with key as (
    select k.organization_id, k.recorded_at, k.idempotency_key from unnest($1::text[], $2::text[]) as c (organization_id, idempotency_key)
    join usage_keys k on k.organization_id = c.organization_id and k.idempotency_key = c.idempotency_key
  )
  select ${EVENT_COLUMNS} from (select distinct organization_id, recorded_at from key) as t
  join usage_events e on e.organization_id = t.organization_id and e.recorded_at = t.recorded_at and e.verb <> 'settle'
  join key on key.organization_id = e.organization_id and key.recorded_at = e.recorded_at and key.idempotency_key = e.idempotency_key`

/** The events of keys. */
export async function findEventsOfKeys(tx: Queryable, keys: readonly EventKey[]): Promise<readonly UsageEvent[]> {
  const found = await tx.query<EventRow>(EVENTS_OF_KEYS, columnsOf(keys))
  return withSpending(tx, found.rows.map(eventOf))
}

/** The events of keys, and the settlements of reservations whose id is given as a key. */
export async function findEventsByKey(tx: Queryable, keys: readonly EventKey[]): Promise<readonly UsageEvent[]> {
  const settlements = await tx.query<EventRow>(
    `select ${EVENT_COLUMNS} from unnest($1::text[], $2::text[]) as c (organization_id, idempotency_key)
     join reservations r on r.organization_id = c.organization_id and r.id = c.idempotency_key
     join usage_events e on e.organization_id = r.organization_id and e.recorded_at = r.settled_recorded_at and e.id = r.settled_event_id`,
    columnsOf(keys),
  )
  return [...(await findEventsOfKeys(tx, keys)), ...settlements.rows.map(eventOf)]
}

function columnsOf(keys: readonly EventKey[]): [string[], string[]] {
  return [keys.map((key) => key.organizationId), keys.map((key) => key.idempotencyKey)]
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
    // Kept beside the event (`withSpending`).
    spending: null,
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
export const usualPlanGrantId = ({
  balanceKey,
  period,
  periodStart,
}: Pick<BalanceSnapshot, 'balanceKey' | 'period' | 'periodStart'>) => planGrantId(balanceKey, period, periodStart)

/** The draws of an event that took everything from the plan's allowance, which is most of them. */
function planDraws({ drawn, overage }: EventRow, grantId: string): Draw[] {
  return drawn === 0n ? [] : [{ grantId, amount: drawn - overage, overage }]
}

/** Whether its draws follow from what it took (`planDraws`). */
export function isPlanDrawAlone({ draws, after }: UsageEvent): boolean {
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

const ADD_TO_HOURS = `on conflict (organization_id, meter, hour) do update set events = u.events + excluded.events,
  quantity = u.quantity + excluded.quantity, drawn = u.drawn + excluded.drawn, overage = u.overage + excluded.overage`

/**
 * Adds to the counters of grants and to the hourly sums from which every report is made, in one statement. The table's own
 * check refuses what would overdraw a grant, whatever the caller believed; and where a grant was not found, a division by nothing fails the
 * whole, so that no use is kept that no grant counts. A grant that somebody changes without its account's lock is such a one: it lies
 * elsewhere when the update has waited for it. The group is then tried again in parts.
 */
export async function addUse(tx: Queryable, grants: readonly GrantChange[], hours: readonly HourlyChange[]): Promise<void> {
  if (grants.length === 1 && hours.length === 1) return addOneUse(tx, grants[0]!, hours[0]!)
  await tx.query({
    name: 'add_use',
    text: `with added as (${ADD_TO_GRANTS} returning 1)
      insert into usage_hourly as u (organization_id, meter, hour, events, quantity, drawn, overage)
      select o, m, h, coalesce(e, 1), q, coalesce(d, q), coalesce(x, 0)
      from unnest($8::text[], $9::text[], $10::timestamptz[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[])
        as c (o, m, h, e, q, d, x)
      where 1 = 1 / case when (select count(*) from added) = cardinality($1) then 1 else 0 end
      ${ADD_TO_HOURS}`,
    values: [...grantChangeColumns(grants), ...hourColumns(hours)],
  })
}

/** The same for one grant and one hour, as of a busy organization: without joins it costs 160 µs instead of 230, all of it under the lock. */
async function addOneUse(tx: Queryable, grant: GrantChange, hour: HourlyChange): Promise<void> {
  await tx.query({
    name: 'add_one_use',
    text: `with added as (
        update grants set used = used + $3, overage = overage + $4, reserved = reserved + $5, held_overage = held_overage + $6,
          amount = amount + $7
        where organization_id = $1 and id = $2
      )
      insert into usage_hourly as u (organization_id, meter, hour, events, quantity, drawn, overage)
      values ($8, $9, $10, $11, $12, $13, $14) ${ADD_TO_HOURS}`,
    values: [
      grant.organizationId,
      grant.id,
      grant.used,
      grant.overage,
      grant.reserved,
      grant.heldOverage,
      grant.amount,
      hour.organizationId,
      hour.meter,
      hour.hour,
      hour.events,
      hour.quantity,
      hour.drawn,
      hour.overage,
    ],
  })
}

/** Columns; what most groups have alike is left out: one event an hour, which draws what it counts and no overage. */
function hourColumns(hours: readonly HourlyChange[]): (readonly unknown[] | null)[] {
  return [
    hours.map(({ organizationId }) => organizationId),
    hours.map(({ meter }) => meter),
    hours.map(({ hour }) => hour),
    hours.every(({ events }) => events === 1) ? null : hours.map(({ events }) => events),
    hours.map(({ quantity }) => quantity),
    hours.every(({ drawn, quantity }) => drawn === quantity) ? null : hours.map(({ drawn }) => drawn),
    hours.every(({ overage }) => overage === 0n) ? null : hours.map(({ overage }) => overage),
  ]
}

/** Forgets keys that were used before a time, a part at a time so that no lock is held long; answers how many. */
export async function deleteKeysBefore(db: Queryable, before: Instant, limit: number): Promise<number> {
  const deleted = await db.query(
    `delete from usage_keys where ctid = any (array(select ctid from usage_keys where recorded_at < $1 limit $2))`,
    [before, limit],
  )
  return deleted.rowCount ?? 0
}
