import type { Queryable } from '../../db/database.ts'
import type { Unsettled } from './fetch.ts'

/** What the mirror holds before a refetch. */
export type Before = {
  /** PostgreSQL's clock, to the microsecond. */
  readonly askedAt: string
  /** By organization: what is looked at again, however old. */
  readonly unsettled: ReadonlyMap<string, Unsettled>
}

/**
 * Reads what of organizations is not settled (invoices held as draft or open, charges of disputes that are not over), and when that was: in one
 * statement, since every refetch begins with it. `ids`: one at least.
 */
export async function readUnsettled(db: Queryable, ids: readonly string[]): Promise<Before> {
  const { rows } = await db.query<{ at: string; id: string; unsettled: Unsettled }>({
    name: 'read_unsettled',
    text: `select clock_timestamp()::text as at, given.id, jsonb_build_object(
        'invoices', coalesce((select jsonb_agg(jsonb_build_object('id', invoice.id, 'customerId', invoice.customer_id)) from stripe_invoices invoice
          where invoice.organization_id = given.id and invoice.status in ('draft', 'open')), '[]'),
        'disputedChargeIds', coalesce((select jsonb_agg(dispute.charge_id) from stripe_disputes dispute
          where dispute.organization_id = given.id and dispute.closed_at is null), '[]')) as unsettled
      from unnest($1::text[]) as given (id)`,
    values: [ids],
  })
  return { askedAt: rows[0]!.at, unsettled: new Map(rows.map(({ id, unsettled }) => [id, unsettled])) }
}
