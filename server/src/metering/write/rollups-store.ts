import type { Queryable } from '../../db/database.ts'
import type { GroupedChange } from '../decide/rollups.ts'

/** Combinations of values that are told apart per organization, meter and month. */
export const MOST_GROUPS = 1_000

/**
 * Adds to the sums of combinations of values. One that is new in its month gets the next number; beyond the thousandth a
 * combination is not told apart, and its use is what these sums leave of the hour's. The caller holds the accounts' locks, so
 * nobody else gives numbers at the same time.
 */
export async function addGroupedUse(tx: Queryable, changes: readonly GroupedChange[]): Promise<void> {
  await tx.query({
    name: 'add_grouped_use',
    text: `with change as (
        select *, date_trunc('month', t, 'UTC')::date as month, sha256(convert_to(l::text, 'UTF8')) as digest
        from json_to_recordset($1) as c (o text, m text, s text, t timestamptz, l jsonb, e bigint, q bigint, d bigint, x bigint)
      ), asked as (
        select distinct on (o, m, month, digest) o, m, month, digest, l, (
          select number from usage_groups g where g.organization_id = o and g.meter = m and g.month = change.month
            and g.digest = change.digest
        ) as number from change
      ), numbered as (
        select *, row_number() over (partition by o, m, month order by digest) + (
          select coalesce(max(g.number), 0) from usage_groups g where g.organization_id = o and g.meter = m and g.month = asked.month
        ) as next from asked where number is null
      ), admitted as (
        insert into usage_groups (organization_id, meter, month, digest, number, labels)
        select o, m, month, digest, next, l from numbered where next <= ${MOST_GROUPS}
        returning organization_id as o, meter as m, month, digest, number
      ), known as (
        select o, m, month, digest, number from asked where number is not null
        union all select o, m, month, digest, number from admitted
      )
      insert into usage_grouped as u (organization_id, meter, span, starts_at, month, group_number, events, quantity, drawn, overage)
      select o, m, s, t, month, number, e, q, d, x from change join known using (o, m, month, digest)
      on conflict (organization_id, meter, span, starts_at, month, group_number) do update set events = u.events + excluded.events,
        quantity = u.quantity + excluded.quantity, drawn = u.drawn + excluded.drawn, overage = u.overage + excluded.overage`,
    values: [JSON.stringify(changes.map(toRow))],
  })
}

function toRow({ organizationId, meter, span, startsAt, labels, events, quantity, drawn, overage }: GroupedChange) {
  return {
    o: organizationId,
    m: meter,
    s: span,
    t: startsAt,
    l: JSON.parse(labels) as unknown,
    e: events,
    q: quantity.toString(),
    d: drawn.toString(),
    x: overage.toString(),
  }
}
