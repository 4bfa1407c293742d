import type { Queryable } from '../db/database.ts'
import type { BillingLine, ReportedPart } from './bills.ts'

/** The lines of statements that bill the use of balances, in the order of their times. */
export async function listBillingLines(
  db: Queryable,
  { organizationId, balanceKeys }: { readonly organizationId: string; readonly balanceKeys: readonly string[] },
): Promise<readonly BillingLine[]> {
  const { rows } = await db.query<BillingLine>(
    `select span.id, span.balance as "balanceKey", span.starts_at as "startsAt", span.ends_at as "endsAt",
       case when span.kind = 'late' and span.state = 'closing' then 'closed' else span.state end as state,
       span.invoice_id as "invoiceId", span.kind = 'late' as "isLate", price.reports
     from billing_spans span join usage_prices price on price.stripe_price_id = span.stripe_price_id
     where span.organization_id = $1 and span.kind <> 'base' and span.balance = any ($2) order by span.starts_at, span.id`,
    [organizationId, balanceKeys],
  )
  return rows
}

/** What lines bill of grants, and what was credited of that. */
export async function listReportedParts(
  db: Queryable,
  { organizationId, grantIds }: { readonly organizationId: string; readonly grantIds: readonly string[] },
): Promise<readonly ReportedPart[]> {
  const { rows } = await db.query<ReportedPart>(
    `select grant_id as "grantId", span_id as "lineId", reports, late, counted as quantity, (
       select coalesce(sum(credit.quantity), 0)::bigint from use_credits credit
       where credit.organization_id = $1 and credit.grant_id = part.grant_id and credit.span_id = part.span_id and credit.late = part.late
     ) as credited
     from reported_grants part where organization_id = $1 and grant_id = any ($2) order by grant_id, span_id, late`,
    [organizationId, grantIds],
  )
  return rows
}

/** The grants that a line has billed something of. */
export async function listGrantsOfLine(
  db: Queryable,
  { organizationId, lineId }: { readonly organizationId: string; readonly lineId: string },
): Promise<readonly string[]> {
  const { rows } = await db.query<{ id: string }>(
    `select distinct grant_id as id from reported_grants where organization_id = $1 and span_id = $2 and counted <> 0
     union select grant_id from use_credits where organization_id = $1 and span_id = $2`,
    [organizationId, lineId],
  )
  return rows.map(({ id }) => id)
}
