import type { Queryable } from '../../db/database.ts'
import type { BilledTime } from '../decide/late.ts'

/** The times in which organizations' use was billed, in their order. Of what lies further back than use may be told, some is left out. */
export async function findBilledTimes(
  db: Queryable,
  organizationIds: readonly string[],
): Promise<ReadonlyMap<string, readonly BilledTime[]>> {
  const { rows } = await db.query<BilledTime & { readonly organizationId: string }>(
    `select span.organization_id as "organizationId", span.balance as "balanceKey", span.starts_at as "startsAt",
       span.ends_at as "endsAt", span.state
     from unnest($1::text[]) as asked (id) cross join lateral (
       select * from billing_spans s where s.organization_id = asked.id and s.kind = 'usage' order by s.starts_at desc limit 500
     ) as span
     order by span.starts_at`,
    [organizationIds],
  )
  return Map.groupBy(rows, ({ organizationId }) => organizationId)
}
