import { insertAuditEntry } from '../audit/store.ts'
import { DomainError } from '../lib/errors.ts'
import { formatQuantity } from '../lib/quantity.ts'
import { requireGateway, type BillingContext } from '../stripe/context.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import { finishPendingIntents } from '../stripe/intents/finish-intents.ts'
import { performIntent, type IntentDb } from '../stripe/intents/intents.ts'
import { tryOrganizationLock } from '../stripe/intents/lock.ts'
import { RECENT_SCOPE } from '../stripe/mirror/fetch.ts'
import { syncOrganization } from '../stripe/mirror/sync.ts'
import { ORGANIZATION_METADATA } from '../stripe/organizations.ts'
import { collectUse } from './collect.ts'
import {
  CREDIT_METADATA,
  endCredit,
  findCreditIntent,
  findGivableCredit,
  listCorrectors,
  listCreditors,
  reopenFailedCredit,
  type CreditEnd,
  type GivableCredit,
} from './credit-store.ts'
import { chargedShareOf } from './rules.ts'

const ORGANIZATIONS_AT_ONCE = 200

/**
 * Gives the credits of all organizations that can be given. One that fails waits, and keeps nobody else's. What was
 * corrected is collected before: at once, so that it is not made up for by what is used since at another price, and also where all that
 * bills an organization has ended, and nothing else looks at it.
 */
export async function giveDueCredits(context: BillingContext): Promise<void> {
  if (context.gateway === null) return
  const failures: unknown[] = []
  const trying = async (organizationId: string, work: () => Promise<unknown>): Promise<void> => {
    try {
      await work()
    } catch (error) {
      if (!(error instanceof StripeCallError)) failures.push(error)
      context.log.warn(
        { event: 'billing.credit_postponed', organization_id: organizationId, err: error },
        'a credit for use that was taken back could not be given; it waits',
      )
    }
  }
  for (const organizationId of await listCorrectors(context.db, ORGANIZATIONS_AT_ONCE)) {
    await trying(organizationId, () => collectUse(context, organizationId))
  }
  for (const organizationId of await listCreditors(context.db, ORGANIZATIONS_AT_ONCE)) {
    await trying(organizationId, () =>
      tryOrganizationLock(context, organizationId, async (session) => {
        await finishPendingIntents(context, session, organizationId, 'background')
        if ((await giveCredits(context, session, organizationId)) === 0) return
        await syncOrganization(context, session, organizationId, { scope: RECENT_SCOPE, priority: 'background' })
      }),
    )
  }
  if (failures.length > 0) throw failures[0]
}

/**
 * Lets a credit that Stripe refused be given again. All that is given of a line is worked out from all that was taken back of it, so
 * what a later credit has brought along meanwhile is not given twice. Answers whose it is.
 * @throws DomainError `not_found`
 */
export async function retryCredit(
  { db, clock }: Pick<BillingContext, 'db' | 'clock'>,
  id: string,
  asker: { readonly actor: string; readonly requestId: string | null },
): Promise<string> {
  return db.transaction(async (tx) => {
    const now = clock.now()
    const reopened = await reopenFailedCredit(tx, id, now)
    if (reopened === null) throw new DomainError('not_found', 'There is no refused credit of this id.')
    const { organizationId } = reopened
    const entry = { action: 'use_credit.retried', target: id, before: { state: 'failed' }, after: { state: 'waiting' }, at: now }
    await insertAuditEntry(tx, { organizationId, ...asker, ...entry })
    return organizationId
  })
}

/**
 * Gives an organization what was taken back of its paid lines, to its customer's balance at Stripe. The caller holds the organization's
 * lock and has settled its pending intents: so what came of an earlier call is known, and each credit is given once.
 * Answers how many calls were made.
 * @throws DomainError those of Stripe; what was not given waits
 */
export async function giveCredits(context: BillingContext, db: IntentDb, organizationId: string): Promise<number> {
  requireGateway(context)
  let calls = 0
  for (;;) {
    const credit = await findGivableCredit(db, organizationId)
    if (credit === null) return calls
    const known = await endOfLastCall(db, credit)
    if (known === null) calls += 1
    await endCredit(db, credit, known ?? (await give(context, db, credit)), context.clock.now())
  }
}

/** null when it has to be asked for (again). One that was refused is left to people (`retryCredit`): asked again it would be refused again. */
async function endOfLastCall(db: IntentDb, credit: GivableCredit): Promise<CreditEnd | null> {
  const intent = await findCreditIntent(db, credit)
  if (intent?.state === 'failed') return { state: 'failed' }
  if (intent?.state !== 'succeeded') return null
  return { state: 'given', givenMinor: intent.amountMinor, transactionId: intent.transactionId }
}

async function give(context: BillingContext, db: IntentDb, credit: GivableCredit): Promise<CreditEnd> {
  const { organizationId, id, spanId, customerId, currency, quantity, invoiceId } = credit
  const amountMinor = giveMinorOf(credit)
  if (amountMinor === 0) return { state: 'given', givenMinor: 0, transactionId: null }
  const after = { credit: id, quantity: formatQuantity(quantity), amount_minor: amountMinor, currency, invoice_id: invoiceId }
  try {
    const { id: transactionId } = await performIntent(context, db, {
      organizationId,
      kind: 'credit_customer',
      params: {
        customerId,
        amountMinor,
        currency,
        description: describe(credit),
        metadata: { [ORGANIZATION_METADATA]: organizationId, [CREDIT_METADATA]: id },
      },
      priority: 'background',
      audit: { actor: 'system:billing', action: 'use.credited', target: spanId, before: null, after, requestId: null },
    })
    return { state: 'given', givenMinor: amountMinor, transactionId }
  } catch (error) {
    const isRefused = error instanceof StripeCallError && error.outcome === 'refused'
    if (!isRefused) throw error
    context.log.error(
      { event: 'billing.credit_failed', organization_id: organizationId, credit: id, amount_minor: amountMinor, err: error },
      'Stripe did not take a credit for use that was taken back',
    )
    return { state: 'failed' }
  }
}

/**
 * What was charged for it, less what came back of its line before, and no more than what is left of its invoice; a void one has charged
 * nothing. A credit note does not say of which use of its line it is: it is taken to be of what is taken back, as far as that goes.
 */
function giveMinorOf({ isVoid, line, amountMinor, before, leftMinor }: GivableCredit): number {
  if (isVoid) return 0
  const share = chargedShareOf(line, before.amountMinor + amountMinor) - before.givenMinor - before.notedMinor
  return Math.max(0, Math.min(share, leftMinor))
}

function describe({ quantity, balanceKey, startsAt, endsAt }: GivableCredit): string {
  const day = (at: Date): string => at.toISOString().slice(0, 10)
  return `${formatQuantity(quantity)} × ${balanceKey} taken back, of ${day(startsAt)} to ${day(endsAt)}`
}
