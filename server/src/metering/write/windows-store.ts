import type { Queryable } from '../../db/database.ts'
import type { RateWindow } from '../decide/windows.ts'
import type { MeterName } from './readings-store.ts'

type StoredSlot = readonly [number, string]

export async function findRateWindows(tx: Queryable, meters: readonly MeterName[]): Promise<readonly RateWindow[]> {
  const found = await tx.query<Omit<RateWindow, 'slots'> & { readonly slots: readonly StoredSlot[] }>(
    `select distinct on (w.organization_id, w.meter) w.organization_id as "organizationId", w.meter, w.slots
     from unnest($1::text[], $2::text[]) as m (organization_id, meter)
     join rate_windows w on w.organization_id = m.organization_id and w.meter = m.meter`,
    [meters.map((name) => name.organizationId), meters.map((name) => name.meter)],
  )
  return found.rows.map((row) => ({
    ...row,
    slots: row.slots.map(([endMs, quantity]) => ({ endMs, quantity: BigInt(quantity) })),
  }))
}

/** Keeps what was accepted; the caller holds the accounts' locks. */
export async function upsertRateWindows(tx: Queryable, windows: readonly RateWindow[]): Promise<void> {
  const rows = windows.map(({ organizationId, meter, slots }) => ({
    organization_id: organizationId,
    meter,
    slots: slots.map(({ endMs, quantity }): StoredSlot => [endMs, quantity.toString()]),
  }))
  await tx.query(
    `insert into rate_windows (organization_id, meter, slots)
     select organization_id, meter, slots from json_to_recordset($1) as w (organization_id text, meter text, slots jsonb)
     on conflict (organization_id, meter) do update set slots = excluded.slots`,
    [JSON.stringify(rows)],
  )
}
