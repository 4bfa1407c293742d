import { MINUTE_MS } from '../lib/period.ts'
import type { BillingContext } from '../stripe/context.ts'
import { insertAuditEntry } from '../audit/store.ts'
import { DomainError } from '../lib/errors.ts'
import { collectUse } from './collect.ts'
import { giveCredits } from './credits.ts'
import { chargeLateUse } from './late-charges.ts'
import { reopenFailedEvent } from './event-store.ts'
import { sendReports } from './send.ts'
import { listOrganizationsToReport, listWithUseToReport, passOver } from './due-store.ts'

export { followBilling } from './collect.ts'

/**
 * Reports what an organization has used so far: before its plan changes, and before its test clock moves (`isStanding`).
 * @throws DomainError those of Stripe; what was collected is stored and waits
 */
export async function reportNow(
  context: BillingContext,
  organizationId: string,
  options: { readonly isStanding?: boolean } = {},
): Promise<void> {
  if (context.gateway === null) return
  await collectUse(context, organizationId, options)
  await sendReports(context, { organizationId })
}

/**
 * The same before an organization's test clock moves, by whoever moves it and so holds its lock; also what was taken back is given, and what was told late charged, so
 * that it is there when the next period is invoiced.
 */
export async function settleBeforeClockMoves(context: BillingContext, organizationId: string): Promise<void> {
  if (context.gateway === null) return
  await reportNow(context, organizationId, { isStanding: true })
  await chargeLateUse(context, context.db, organizationId, { isEnding: true })
  await giveCredits(context, context.db, organizationId)
}

/** How long use is summed up before it is reported, while no period ends. */
const WINDOW_MS = 60 * MINUTE_MS
const ORGANIZATIONS_AT_ONCE = 1_000
/** The others wait for the next minute. */
const ORGANIZATIONS_A_RUN = 50_000

/**
 * Reports what is due, of all organizations. Who has nothing to send is passed over, many in one statement; what they use meanwhile is looked
 * for when they are due again. Whoever's use cannot be collected keeps nobody else's.
 * @throws what the first failed with, after the others
 */
export async function reportDue(context: BillingContext): Promise<void> {
  if (context.gateway === null) return
  const now = context.clock.now()
  const before = new Date(now.getTime() - WINDOW_MS)
  const due = await listOrganizationsToReport(context.db, { before, now, limit: ORGANIZATIONS_A_RUN })
  const failures: unknown[] = []
  for (let from = 0; from < due.length; from += ORGANIZATIONS_AT_ONCE) {
    failures.push(...(await collectOrPassOver(context, due.slice(from, from + ORGANIZATIONS_AT_ONCE))))
  }
  await sendReports(context, { organizationId: null })
  if (failures.length > 0) throw failures[0]
}

/** Answers what went wrong with those whose use could not be collected. */
async function collectOrPassOver(context: BillingContext, organizationIds: readonly string[]): Promise<unknown[]> {
  const now = context.clock.now()
  const failures: unknown[] = []
  const withUse = new Set(await listWithUseToReport(context.db, { organizationIds, now }))
  await passOver(context.db, { organizationIds: organizationIds.filter((id) => !withUse.has(id)), now })
  for (const organizationId of withUse) {
    try {
      await collectUse(context, organizationId)
    } catch (error) {
      failures.push(error)
      context.log.error(
        { event: 'billing.collecting_failed', organization_id: organizationId, err: error },
        'use could not be collected',
      )
    }
  }
  return failures
}

/**
 * Sends a failed report again, after whatever was wrong has been put right. An operator has looked whether Stripe counts it: the
 * report goes under a new name. When its invoice is closed, it comes on the next one.
 * @throws DomainError `not_found`, and those of Stripe
 */
export async function retryReport(
  context: BillingContext,
  identifier: string,
  asker: { readonly actor: string; readonly requestId: string | null },
): Promise<void> {
  const { organizationId } = await context.db.transaction(async (tx) => {
    const reopened = await reopenFailedEvent(tx, identifier)
    if (reopened === null) throw new DomainError('not_found', 'There is no failed report of this name.')
    await insertAuditEntry(tx, {
      organizationId: reopened.organizationId,
      ...asker,
      action: 'report.retried',
      target: identifier,
      before: null,
      after: null,
      at: context.clock.now(),
    })
    return reopened
  })
  await reportNow(context, organizationId)
}
