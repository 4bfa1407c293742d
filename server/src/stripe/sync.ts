import type { Queryable, Session, Transaction } from '../db/database.ts'
import { publishEvents } from '../events/actions.ts'
import type { Instant } from '../lib/clock.ts'
import { lockAccount, readMirror, readPlansByPrice, refreshAddOns, upsertAccount } from './account-store.ts'
import { describeChanges, type BillingEvent, type StateChange } from './changes.ts'
import { requireGateway, type BillingContext } from './context.ts'
import { deriveAccount, type AccountAlert, type AccountDerivation, type DerivedAccount } from './derive-account.ts'
import { fetchState, type StripeState, type SyncScope } from './fetch.ts'
import type { CallPriority } from './limiter.ts'
import {
  deleteInvoices,
  endSubscriptionsOfCustomer,
  recordSync,
  replacePaymentMethods,
  upsertCharges,
  upsertCustomer,
  upsertInvoices,
  upsertSubscriptions,
  type MirrorWrite,
} from './mirror-store.ts'
import { publishedEvents } from './published.ts'
import type { InvoiceSnapshot } from './snapshots.ts'
import { readOrganization, timeOf, unlinkCustomer, type BilledOrganization } from './organizations.ts'

export type SyncOptions = {
  readonly scope: SyncScope
  readonly priority: CallPriority
  /** What belongs into the same transaction: the events that are handled by it, the drift that was found. */
  readonly alsoWrite?: (tx: Transaction, fetched: StripeState | null) => Promise<void>
}

/**
 * Refetches an organization from Stripe and applies what came: mirror, account, grants, history, in one transaction. The one
 * way by which anything of Stripe gets into the database, for webhooks, our own calls, clocks and reconciliation alike.
 * The caller holds the organization's lock on `session`.
 */
export async function syncOrganization(
  context: BillingContext,
  session: Session,
  organizationId: string,
  options: SyncOptions,
): Promise<DerivedAccount> {
  const organization = await readOrganization(session, organizationId)
  // The time before the fetch: what is fetched is at least this fresh.
  const refreshedAt = context.clock.now()
  const fetched = await fetchOrganization(context, session, organization, options)
  const derived = await session.transaction(async (tx) => {
    const before = await lockAccount(tx, organizationId)
    // What happened is told from what the mirror held, so that is read before it is overwritten.
    const invoices = fetched?.invoices ?? []
    const invoicesBefore = await readInvoiceStates(tx, organizationId, invoices)
    if (fetched !== null) await writeMirror(tx, { organizationId, refreshedAt }, fetched, options.scope.complete)
    const derivation = await deriveAndStore(context, tx, organization, { before, invoicesBefore, invoices })
    await options.alsoWrite?.(tx, fetched)
    return derivation
  })
  // After the commit: what is counted has happened.
  if (derived.recorded.length > 0) context.onBillingEvents?.(derived.recorded)
  for (const alert of derived.alerts) report(context, organizationId, alert)
  return derived.account
}

async function fetchOrganization(
  context: BillingContext,
  session: Session,
  organization: BilledOrganization,
  { scope, priority }: SyncOptions,
): Promise<StripeState | null> {
  if (organization.customerId === null) return null
  const gateway = requireGateway(context)
  const { rows } = await session.query<{ id: string }>(
    `select id from stripe_invoices where organization_id = $1 and customer_id = $2 and status in ('draft', 'open')`,
    [organization.id, organization.customerId],
  )
  const reads = priority === 'interactive' ? gateway.reads : gateway.backgroundReads
  return fetchState(
    reads,
    organization.customerId,
    scope,
    rows.map(({ id }) => id),
  )
}

async function writeMirror(tx: Transaction, write: MirrorWrite, state: StripeState, complete: boolean): Promise<void> {
  if (state.customer !== null) await upsertCustomer(tx, write, state.customer)
  if (state.customerGone) {
    await endSubscriptionsOfCustomer(tx, write, state.customerId)
    await unlinkCustomer(tx, { organizationId: write.organizationId, customerId: state.customerId })
  }
  await upsertSubscriptions(tx, write, state.subscriptions)
  if (state.paymentMethods !== null) await replacePaymentMethods(tx, write, state.customerId, state.paymentMethods)
  await upsertCharges(tx, write, state.charges)
  await upsertInvoices(tx, write, state.invoices)
  await deleteInvoices(tx, write.organizationId, state.goneInvoiceIds)
  await recordSync(tx, write, complete)
}

type Known = Pick<StateChange, 'before' | 'invoicesBefore' | 'invoices'>

async function deriveAndStore(
  context: BillingContext,
  tx: Transaction,
  organization: BilledOrganization,
  known: Known,
): Promise<AccountDerivation & { readonly recorded: readonly BillingEvent[] }> {
  const now = timeOf(organization, context.clock)
  const mirror = await readMirror(tx, organization.id)
  const priceIds = mirror.subscriptions.flatMap(({ items, scheduled }) => [
    ...items.map(({ priceId }) => priceId),
    ...(scheduled === null ? [] : [scheduled.priceId]),
  ])
  const { current } = context.catalogs
  const derived = deriveAccount({
    ...mirror,
    plansByPrice: await readPlansByPrice(tx, priceIds),
    previous: known.before,
    current: {
      catalogVersion: current.version,
      defaultPlanKey: current.catalog.defaultPlanKey,
      planKeys: new Set(current.catalog.plans.keys()),
    },
  })
  await upsertAccount(tx, organization.id, derived.account, context.clock.now())
  await refreshAddOns(tx, organization.id)
  await context.onAccountDerived(tx, { organizationId: organization.id, now })
  const events = describeChanges({ ...known, after: derived.account, now })
  const recorded = await insertBillingEvents(tx, organization.id, events, context.clock.now())
  await publishEvents(tx, publishedEvents(organization.id, recorded))
  return { ...derived, recorded }
}

type InvoiceState = { readonly status: string; readonly attemptCount: number }

async function readInvoiceStates(
  tx: Queryable,
  organizationId: string,
  invoices: readonly InvoiceSnapshot[],
): Promise<ReadonlyMap<string, InvoiceState>> {
  const { rows } = await tx.query<InvoiceState & { id: string }>(
    `select id, status, attempt_count as "attemptCount" from stripe_invoices where organization_id = $1 and id = any($2)`,
    [organizationId, invoices.map(({ id }) => id)],
  )
  return new Map(rows.map(({ id, ...state }) => [id, state]))
}

/** Answers those that were new. */
async function insertBillingEvents(
  tx: Queryable,
  organizationId: string,
  events: readonly BillingEvent[],
  recordedAt: Instant,
): Promise<readonly BillingEvent[]> {
  if (events.length === 0) return []
  const { rows } = await tx.query<{ key: string }>(
    `insert into billing_events (organization_id, key, kind, data, occurred_at, recorded_at)
     select $1, key, kind, data, "occurredAt", $3
     from jsonb_to_recordset($2) as row (key text, kind text, data jsonb, "occurredAt" timestamptz)
     on conflict do nothing returning key`,
    [organizationId, JSON.stringify(events), recordedAt],
  )
  const recorded = new Set(rows.map(({ key }) => key))
  return events.filter(({ key }) => recorded.has(key))
}

function report(context: BillingContext, organizationId: string, alert: AccountAlert): void {
  const words =
    alert.kind === 'unknown_price'
      ? 'a subscription is sold at a price that no plan has: the plan stays what it was'
      : 'an organization has several live subscriptions'
  context.log.error({ event: `billing.${alert.kind}`, organization_id: organizationId, ...alert }, words)
}
