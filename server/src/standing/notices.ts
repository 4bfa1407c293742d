import { z } from '@hono/zod-openapi'
import type { Queryable } from '../db/database.ts'
import { formatMajor } from '../lib/money.ts'
import { countFailedReports } from '../pricing/event-store.ts'
import { listLostDisputes, type InvoiceDispute } from '../stripe/mirror/dispute-store.ts'

/** Something about an organization's billing that is not in order; it takes nothing away by itself. */
export type Notice = z.infer<typeof noticeSchema>

export const noticeSchema = z
  .object({
    code: z.enum(['use_not_reported', 'payment_charged_back']),
    message: z.string(),
    count: z.number().int(),
    since: z.iso.datetime(),
  })
  .openapi('Notice')

/** The notices of organizations, by id; those without one are left out. */
export async function readNotices(
  db: Queryable,
  organizationIds: readonly string[],
): Promise<ReadonlyMap<string, readonly Notice[]>> {
  const notices = new Map<string, readonly Notice[]>()
  const add = (organizationId: string, notice: Notice) =>
    notices.set(organizationId, [...(notices.get(organizationId) ?? []), notice])
  for (const { organizationId, count, since } of await countFailedReports(db, organizationIds)) {
    const message = 'Stripe does not count some of the reported use: it is on no invoice until somebody has put that right.'
    add(organizationId, { code: 'use_not_reported', message, count, since: since.toISOString() })
  }
  for (const { organizationId, since, ...dispute } of await listLostDisputes(db, organizationIds)) {
    add(organizationId, { code: 'payment_charged_back', message: chargedBack(dispute), count: 1, since: since.toISOString() })
  }
  return notices
}

/** What happened, how much it is about, and what to do. */
function chargedBack({ id, amountMinor, currency, reason }: Pick<InvoiceDispute, 'id' | 'amountMinor' | 'currency' | 'reason'>) {
  const amount = `${formatMajor({ amountMinor, currency })} ${currency.toUpperCase()}`
  return `A payment of ${amount} was charged back (${reason}), and the dispute was lost. POST /api/v1/billing/disputes/${id}/pay opens a page where it is paid again; the next payment for the subscription settles it too.`
}
