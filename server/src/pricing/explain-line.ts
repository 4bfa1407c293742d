import type { Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import type { UsageContext } from '../metering/api.ts'
import { timeOf } from '../stripe/organizations.ts'
import { readOrganization } from '../stripe/organizations.ts'
import type { BillingContext } from '../stripe/context.ts'
import { explainGrantsOf, type GrantsExplanation, type Paging } from '../usage/explain.ts'
import { listGrantsOfLine } from '../usage/bills-store.ts'
import { findSpan } from './span-store.ts'
import { readWaiting, usageLines, type UsageLine } from './lines.ts'

/** A line, the grants whose count it bills, and the events that made that count. */
export type LineExplanation = { readonly line: UsageLine; readonly explained: GrantsExplanation | null }

/**
 * What made a line of a statement: the grants that it bills something of, each with how much of it is on this line and on others, and
 * the events that drew from them. Over all grants, what they say of the line is the line's quantity, late use told apart; over all
 * pages, the overage of the events is that of the grants.
 * @throws DomainError `not_found`
 */
export async function explainLine(
  { billing, usage }: { readonly billing: BillingContext; readonly usage: UsageContext },
  { organizationId, lineId, ...paging }: Paging & { readonly organizationId: string; readonly lineId: string },
): Promise<LineExplanation> {
  const { db, clock } = billing
  const span = await findSpan(db, { organizationId, id: lineId })
  if (span === null || span.kind === 'base') throw new DomainError('not_found', 'There is no such line.', { line: lineId })
  const now: Instant = timeOf(await readOrganization(db, organizationId), clock)
  const [line] = await usageLines(db, { organizationId, now }, [span])
  const { waiting } = await readWaiting(db, { organizationId, now })
  const grantIds = new Set([
    ...(await listGrantsOfLine(db, { organizationId, lineId })),
    ...waiting.filter((report) => report.span.id === lineId).flatMap(({ grants }) => grants.map(({ grantId }) => grantId)),
  ])
  if (grantIds.size === 0) return { line: line!, explained: null }
  const context = { ...usage, db }
  return { line: line!, explained: await explainGrantsOf(context, { organizationId, grantIds: [...grantIds], ...paging }) }
}
