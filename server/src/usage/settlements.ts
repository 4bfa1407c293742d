import { z } from '@hono/zod-openapi'
import type { Queryable } from '../db/database.ts'
import { isUse } from '../metering/decide/rollups.ts'
import type { UsageEvent } from '../metering/usage.ts'

/** What is said of an event's bill (KF-11). */
export const settlementSchema = {
  billed: z.boolean().meta({ description: 'Whether a paid invoice has settled it.' }),
  invoice_id: z.string().nullable().meta({ description: 'The invoice that settles it, once that is closed.' }),
}

export type Settlement = { readonly billed: boolean; readonly invoice_id: string | null }

const UNSETTLED: Settlement = { billed: false, invoice_id: null }

/**
 * Which invoice settles each event: the first one of its period or later that was closed after the event was recorded. Use that
 * was told after its period's invoice was closed is so found on the next one. Holds and refusals are on none.
 */
export async function findSettlements(
  db: Queryable,
  events: readonly UsageEvent[],
): Promise<(event: Pick<UsageEvent, 'id'>) => Settlement> {
  const uses = events.filter(isUse)
  const { rows } = await db.query<{ id: string; invoiceId: string; billed: boolean }>(
    `select event.id, settled.invoice_id as "invoiceId", settled.paid_at is not null as billed
     from unnest($1::text[], $2::uuid[], $3::timestamptz[], $4::timestamptz[]) as event (organization_id, id, occurred_at, recorded_at)
     cross join lateral (
       select invoice_id, paid_at from settled_usage
       where organization_id = event.organization_id and ends_at > event.occurred_at and recorded_until >= event.recorded_at
       order by ends_at, invoice_id limit 1
     ) settled
     -- Before the first subscription nothing is billed.
     where exists (
       select from settled_usage own
       where own.organization_id = event.organization_id and own.starts_at <= event.occurred_at and own.ends_at > event.occurred_at
     )`,
    [
      uses.map(({ organizationId }) => organizationId),
      uses.map(({ id }) => id),
      uses.map(({ occurredAt }) => occurredAt),
      uses.map(({ recordedAt }) => recordedAt),
    ],
  )
  const found = new Map(rows.map(({ id, invoiceId, billed }) => [id, { billed, invoice_id: invoiceId }]))
  return ({ id }) => found.get(id) ?? UNSETTLED
}
