import type { Queryable } from '../../db/database.ts'
import { together } from '../../db/together.ts'
import type { Moment } from '../../grants/store.ts'
import type { Instant } from '../../lib/clock.ts'
import type { Reservation, ReservationStatus } from '../usage.ts'
import { drawsOf, storedDraws, type StoredDraw } from './store.ts'

type ReservationRow = Omit<Reservation, 'holds'> & { readonly holds: readonly StoredDraw[] }

const RESERVATION_COLUMNS = `r.organization_id as "organizationId", r.id, r.meter, r.quantity, r.balance as "balanceKey", r.holds,
  r.status, r.properties, r.created_at as "createdAt", r.expires_at as "expiresAt", r.closed_at as "closedAt",
  r.settled_event_id as "settledEventId", r.settled_recorded_at as "settledRecordedAt"`

function reservationOf(row: ReservationRow): Reservation {
  return { ...row, holds: drawsOf(row.holds) }
}

export type ReservationName = { readonly organizationId: string; readonly reservationId: string }

/** Named reservations, whatever became of them. */
export async function findReservations(tx: Queryable, names: readonly ReservationName[]): Promise<readonly Reservation[]> {
  const found = await tx.query<ReservationRow>(
    `select ${RESERVATION_COLUMNS} from unnest($1::text[], $2::text[]) as n (organization_id, id)
     join reservations r on r.organization_id = n.organization_id and r.id = n.id`,
    [names.map((name) => name.organizationId), names.map((name) => name.reservationId)],
  )
  return found.rows.map(reservationOf)
}

/** The open reservations of organizations whose time is over by the organization's own clock. */
export async function findOverdueReservations(
  tx: Queryable,
  organizationIds: readonly string[],
  now: Instant,
): Promise<readonly Reservation[]> {
  const found = await tx.query<ReservationRow>(
    `select ${RESERVATION_COLUMNS} from organizations o join reservations r on r.organization_id = o.id
     where o.id = any ($1) and r.status = 'open' and r.expires_at <= coalesce(o.test_clock_now, $2)`,
    [organizationIds, now],
  )
  return found.rows.map(reservationOf)
}

/** The same for one; `at` is this server's time. */
export const findOverdueReservationsOf = together(async (tx, asked: readonly Moment[]) => {
  // Whose time is over a moment later is ended with the next look.
  const at = asked[0]!.at
  const found = await findOverdueReservations(tx, [...new Set(asked.map(({ organizationId }) => organizationId))], at)
  const byId = Map.groupBy(found, ({ organizationId }) => organizationId)
  return asked.map(({ organizationId }) => byId.get(organizationId) ?? [])
})

export async function insertReservations(tx: Queryable, reservations: readonly Reservation[]): Promise<void> {
  await tx.query(
    `insert into reservations (organization_id, id, meter, quantity, balance, holds, status, properties, created_at, expires_at,
       closed_at, settled_event_id, settled_recorded_at)
     select organization_id, id, meter, quantity, balance, holds, status, properties, created_at, expires_at, closed_at,
       settled_event_id, settled_recorded_at
     from json_to_recordset($1) as r (organization_id text, id text, meter text, quantity bigint, balance text, holds jsonb,
       status text, properties jsonb, created_at timestamptz, expires_at timestamptz, closed_at timestamptz, settled_event_id uuid,
       settled_recorded_at timestamptz)`,
    [
      JSON.stringify(
        reservations.map((reservation) => ({
          organization_id: reservation.organizationId,
          id: reservation.id,
          meter: reservation.meter,
          quantity: reservation.quantity.toString(),
          balance: reservation.balanceKey,
          holds: storedDraws(reservation.holds),
          status: reservation.status satisfies ReservationStatus,
          properties: reservation.properties ?? undefined,
          created_at: reservation.createdAt,
          expires_at: reservation.expiresAt,
          closed_at: reservation.closedAt ?? undefined,
          settled_event_id: reservation.settledEventId ?? undefined,
          settled_recorded_at: reservation.settledRecordedAt ?? undefined,
        })),
      ),
    ],
  )
}

/** Writes how reservations ended. */
export async function closeReservations(tx: Queryable, reservations: readonly Reservation[]): Promise<void> {
  await tx.query(
    `update reservations r set status = c.status, closed_at = c.closed_at, settled_event_id = c.event_id,
       settled_recorded_at = c.recorded_at
     from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::uuid[], $6::timestamptz[])
       as c (organization_id, id, status, closed_at, event_id, recorded_at)
     where r.organization_id = c.organization_id and r.id = c.id`,
    [
      reservations.map((reservation) => reservation.organizationId),
      reservations.map((reservation) => reservation.id),
      reservations.map((reservation) => reservation.status),
      reservations.map((reservation) => reservation.closedAt),
      reservations.map((reservation) => reservation.settledEventId),
      reservations.map((reservation) => reservation.settledRecordedAt),
    ],
  )
}

/** Organizations with reservations that should have ended by their own clock. */
export async function listOrganizationsWithOverdueReservations(
  db: Queryable,
  now: Instant,
  limit: number,
): Promise<readonly string[]> {
  const found = await db.query<{ id: string }>(
    `select distinct r.organization_id as id from reservations r join organizations o on o.id = r.organization_id
     where r.status = 'open' and r.expires_at <= coalesce(o.test_clock_now, $1) order by 1 limit $2`,
    [now, limit],
  )
  return found.rows.map((row) => row.id)
}

/** Forgets reservations that ended before a time, a part at a time; answers how many. */
export async function deleteReservationsBefore(db: Queryable, before: Instant, limit: number): Promise<number> {
  const deleted = await db.query(
    `delete from reservations where ctid = any (array(select ctid from reservations where status <> 'open' and closed_at < $1 limit $2))`,
    [before, limit],
  )
  return deleted.rowCount ?? 0
}
