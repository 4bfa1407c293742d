import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'

export type Queue = 'events' | 'webhooks' | 'mails'

/** Beyond this nobody counts. */
const MOST = 10_000

/** What should have been done by `since` and was not, by queue: events that were not handed out, deliveries and mails whose time had come. */
export async function countOverdue(db: Queryable, since: Instant): Promise<ReadonlyMap<Queue, number>> {
  const { rows } = await db.query<{ queue: Queue; count: number }>(
    `select 'events' as queue, count(*)::int from (select 1 from events where handed_out_at is null limit $2) waiting
     union all
     select 'webhooks', count(*)::int from (
       select 1 from webhook_deliveries delivery
       join webhook_endpoints endpoint on endpoint.id = delivery.endpoint_id and endpoint.disabled_at is null
       where delivery.state = 'pending' and delivery.next_attempt_at <= $1 limit $2) waiting
     union all
     select 'mails', count(*)::int from (select 1 from mails where state = 'pending' and next_attempt_at <= $1 limit $2) waiting`,
    [since, MOST],
  )
  return new Map(rows.map(({ queue, count }) => [queue, count]))
}
