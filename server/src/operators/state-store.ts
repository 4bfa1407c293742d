import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'

export type InvoiceTotals = {
  readonly status: string
  readonly currency: string
  readonly count: number
  readonly totalMinor: number
  readonly remainingMinor: number
}

/** An organization's invoices by state and currency. */
export async function sumInvoices(db: Queryable, organizationId: string): Promise<InvoiceTotals[]> {
  const { rows } = await db.query<InvoiceTotals>(
    `select status, currency, count(*)::int as count, sum(total_minor)::float8 as "totalMinor",
       sum(amount_remaining_minor)::float8 as "remainingMinor"
     from stripe_invoices where organization_id = $1 group by status, currency order by status, currency`,
    [organizationId],
  )
  return rows
}

export type ReceivedEvent = {
  readonly id: string
  readonly type: string
  readonly receivedAt: Instant
  readonly handledAt: Instant | null
  readonly parkedAt: Instant | null
  readonly lastError: string | null
}

/** What arrived from Stripe about it, newest first. */
export async function listReceivedEvents(db: Queryable, organizationId: string, limit: number): Promise<ReceivedEvent[]> {
  const { rows } = await db.query<ReceivedEvent>(
    `select event_id as id, type, received_at as "receivedAt", handled_at as "handledAt", parked_at as "parkedAt",
       last_error as "lastError"
     from stripe_events where organization_id = $1 order by received_at desc, event_id limit $2`,
    [organizationId, limit],
  )
  return rows
}

export type SyncTimes = { readonly syncedAt: Instant | null; readonly reconciledAt: Instant | null }

export async function findSyncTimes(db: Queryable, organizationId: string): Promise<SyncTimes> {
  const { rows } = await db.query<SyncTimes>(
    'select synced_at as "syncedAt", reconciled_at as "reconciledAt" from stripe_syncs where organization_id = $1',
    [organizationId],
  )
  return rows[0] ?? { syncedAt: null, reconciledAt: null }
}
