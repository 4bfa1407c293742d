import { formatQuantity } from '../lib/quantity.ts'
import { lockAccount } from '../grants/store.ts'
import { leaveToOperators } from '../stripe/left-to-operators.ts'
import { requireGateway, type BillingContext } from '../stripe/context.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import { LINE_METADATA, PRICE_METADATA, type InvoiceItemParams } from '../stripe/gateway/invoice-items.ts'
import { toUnix } from '../stripe/gateway/wire.ts'
import { finishPendingIntents } from '../stripe/intents/finish-intents.ts'
import { performIntent, type IntentDb } from '../stripe/intents/intents.ts'
import { tryOrganizationLock } from '../stripe/intents/lock.ts'
import { ORGANIZATION_METADATA } from '../stripe/organizations.ts'
import { collectUse } from './collect.ts'
import { lateMinorOf, readWholes, wholeIdOf } from './late-lines.ts'
import {
  closeLateLine,
  deleteEmptyLateLine,
  findLateItem,
  fixLateLine,
  listLateChargers,
  listLateToCharge,
  type LateItem,
} from './late-lines-store.ts'
import { findSpan, lockSpans } from './span-store.ts'
import type { BillingSpan } from './spans.ts'

const ORGANIZATIONS_AT_ONCE = 200

/** Puts the late use of all organizations onto their next invoices, as far as it is due. One that fails waits, and keeps nobody else's. */
export async function chargeDueLateUse(context: BillingContext): Promise<void> {
  if (context.gateway === null) return
  const failures: unknown[] = []
  for (const organizationId of await listLateChargers(context.db, { now: context.clock.now(), limit: ORGANIZATIONS_AT_ONCE })) {
    try {
      await tryOrganizationLock(context, organizationId, async (session) => {
        await finishPendingIntents(context, session, organizationId, 'background')
        await chargeLateUse(context, session, organizationId)
      })
    } catch (error) {
      if (!(error instanceof StripeCallError)) failures.push(error)
      context.log.warn(
        { event: 'billing.late_use_postponed', organization_id: organizationId, err: error },
        'use that was told late could not be put onto the next invoice; it waits',
      )
    }
  }
  if (failures.length > 0) throw failures[0]
}

/**
 * Puts an organization's late use of lines that changes have ended onto its next invoice, each line of it as an item that is made once. The caller holds
 * the organization's lock and has settled its pending intents: so what came of an earlier call is known.
 * @param isEnding whether all of it is due now: the period is about to end, or the subscription
 * @throws DomainError those of Stripe; what was not made waits
 */
export async function chargeLateUse(
  context: BillingContext,
  db: IntentDb,
  organizationId: string,
  { isEnding = false }: { readonly isEnding?: boolean } = {},
): Promise<void> {
  const now = context.clock.now()
  const due = await listLateToCharge(db, { organizationId, now, isEnding })
  if (due.length === 0) return
  // What was taken back since is not asked for.
  await collectUse(context, organizationId)
  for (const id of due) {
    const span = await fix(db, { organizationId, id })
    if (span?.state !== 'closing') continue
    const item = await findLateItem(db, { organizationId, id })
    if (item === null || item.state === 'pending') continue
    if (item.state !== 'succeeded') await make(context, db, { organizationId, span, item })
    await closeLateLine(db, { organizationId, id })
  }
}

/** Fixes what a line comes to, in the order of the lines: each costs what the whole costs with it, less what it came to before. */
function fix(
  db: IntentDb,
  { organizationId, id }: { readonly organizationId: string; readonly id: string },
): Promise<BillingSpan | null> {
  return db.transaction(async (tx) => {
    await lockAccount(tx, organizationId)
    const found = await findSpan(tx, { organizationId, id })
    if (found === null) return null
    await lockSpans(tx, { organizationId, ids: [id, wholeIdOf(found)] })
    const span = await findSpan(tx, { organizationId, id })
    if (span?.state !== 'open') return span
    if (span.quantity === 0n) {
      await deleteEmptyLateLine(tx, { organizationId, id })
      return null
    }
    const whole = (await readWholes(tx, organizationId, { spans: [span] })).get(wholeIdOf(span))!
    await fixLateLine(tx, { organizationId, id, amountMinor: lateMinorOf(whole, span.quantity) })
    return findSpan(tx, { organizationId, id })
  })
}

type Making = { readonly organizationId: string; readonly span: BillingSpan; readonly item: LateItem }

/** What Stripe refuses is left to operators: asked again it would be refused again. */
async function make(context: BillingContext, db: IntentDb, { organizationId, span, item }: Making): Promise<void> {
  const params = await paramsOf(context, { organizationId, span, item })
  const { amountMinor, currency, description } = params
  const after = { line: span.lateOf, quantity: formatQuantity(span.quantity), amount_minor: amountMinor, currency }
  const leave = (error?: unknown): Promise<void> =>
    leaveToOperators(
      { context, session: db, organizationId },
      {
        kind: 'invoice_item.left_out',
        about: span.id,
        target: span.id,
        data: { line: span.id, amount_minor: amountMinor, currency, description },
        words: 'Stripe did not take what use that was told late comes to',
        error,
      },
    )
  if (item.state === 'failed') return leave()
  try {
    await performIntent(context, db, {
      organizationId,
      kind: 'create_invoice_item',
      params,
      priority: 'background',
      audit: { actor: 'system:billing', action: 'late_use.charged', target: span.id, before: null, after, requestId: null },
    })
  } catch (error) {
    if (!(error instanceof StripeCallError) || error.outcome !== 'refused') throw error
    await leave(error)
  }
}

/** Taxed as the line of its time was: by the tax behavior of its price and the tax code of its product, where no tax rates say how. */
async function paramsOf(context: BillingContext, { organizationId, span, item }: Making): Promise<InvoiceItemParams> {
  const tax = await requireGateway(context).backgroundReads.retrieveItemTax(span.priceId)
  return {
    customerId: item.customerId,
    billWithSubscriptionId: item.subscriptionId,
    amountMinor: Number(span.amountMinor),
    currency: item.currency,
    description: describe(span, item),
    discountable: true,
    taxRateIds: [],
    ...(tax === null ? {} : { tax }),
    startUnix: toUnix(span.startsAt),
    endUnix: toUnix(span.endsAt),
    metadata: { [ORGANIZATION_METADATA]: organizationId, [PRICE_METADATA]: span.priceId, [LINE_METADATA]: span.id },
  }
}

function describe({ quantity, balanceKey }: BillingSpan, { usedFrom, usedUntil }: LateItem): string {
  const day = (at: Date): string => at.toISOString().slice(0, 10)
  return `${formatQuantity(quantity)} × ${balanceKey} told late, of ${day(usedFrom)} to ${day(usedUntil)}`
}
