import { isDeepStrictEqual } from 'node:util'
import type { Queryable, Session, Transaction } from '../../db/database.ts'
import { publishEvents } from '../../events/actions.ts'
import type { Instant } from '../../lib/clock.ts'
import { DomainError } from '../../lib/errors.ts'
import { newId } from '../../lib/ids.ts'
import { requireGateway, type BillingContext } from '../context.ts'
import type { CallPriority } from '../gateway/limiter.ts'
import { findOrganizations, timeOf, unlinkCustomer, type BilledOrganization } from '../organizations.ts'
import {
  lockAccounts,
  readMirror,
  readPlansByPrice,
  readSoldUntil,
  refreshAddOns,
  upsertAccounts,
  type MirrorState,
} from './account-store.ts'
import type { BillingEvent } from './billing-events.ts'
import { describeChanges } from './changes.ts'
import { deriveAccount, type AccountAlert, type AccountDerivation, type DerivedAccount } from './derive-account.ts'
import { findPaymentStates, writeDisputes, type DisputeWrite, type PaymentStates } from './dispute-store.ts'
import { fetchState, type StripeState, type SyncScope } from './fetch.ts'
import { writeMirror, type MirrorOutcome, type MirrorWrite } from './mirror-store.ts'
import { publishedEvents } from './published.ts'
import { readUnsettled } from './unsettled-store.ts'

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
  const [fetching] = await fetchOrganizations(context, session, [{ organizationId, ...options }])
  const fetched = await fetching!
  const [account] = await applyFetched(context, session, [fetched], async (tx) => options.alsoWrite?.(tx, fetched.state))
  return account!
}

export type SyncTask = Pick<SyncOptions, 'scope' | 'priority'> & { readonly organizationId: string }

/** What Stripe said of an organization, to be applied. */
export type Fetched = {
  readonly task: SyncTask
  readonly organization: BilledOrganization
  /** The time before the fetch: what is fetched is at least this fresh. */
  readonly refreshedAt: Instant
  /** The same by the database's clock, to the microsecond. */
  readonly databaseAskedAt: string
  /** null where the organization has no customer at Stripe, and none has left it anything unsettled. */
  readonly state: StripeState | null
}

/**
 * Begins to read organizations from Stripe, each by calls of its own; answers one promise for each of `tasks`, in their order.
 * The caller holds their locks on `session` until what was fetched is applied.
 */
export async function fetchOrganizations(
  context: BillingContext,
  session: Session,
  tasks: readonly SyncTask[],
): Promise<readonly Promise<Fetched>[]> {
  if (tasks.length === 0) return []
  const ids = tasks.map(({ organizationId }) => organizationId)
  const organizations = await findOrganizations(session, ids)
  const { askedAt: databaseAskedAt, unsettled } = await readUnsettled(session, ids)
  const refreshedAt = context.clock.now()
  return tasks.map(async (task) => {
    const organization = organizations.get(task.organizationId)
    if (organization === undefined) throw new DomainError('not_found', 'There is no such organization.')
    const { id, customerId } = organization
    const left = unsettled.get(id)!
    if (customerId === null && left.invoices.length === 0)
      return { task, organization, refreshedAt, databaseAskedAt, state: null }
    const gateway = requireGateway(context)
    const reads = task.priority === 'interactive' ? gateway.reads : gateway.backgroundReads
    const state = await fetchState(reads, customerId, task.scope, left)
    return { task, organization, refreshedAt, databaseAskedAt, state }
  })
}

/**
 * Applies what was fetched of organizations, each of them once, in one transaction: all of it or nothing. The statements of different
 * organizations travel together. Answers their accounts, in order.
 */
export async function applyFetched(
  context: BillingContext,
  session: Session,
  fetched: readonly Fetched[],
  alsoWrite: (tx: Transaction) => Promise<void>,
): Promise<readonly DerivedAccount[]> {
  const applied = await session.packets(async (tx) => {
    const ids = fetched.map(({ organization }) => organization.id)
    // What happened is told from what the mirror held, which is read before it is overwritten.
    const paymentsBefore = await findPaymentStates(tx, statesOf(fetched))
    const mirrored = await writeMirror(
      tx,
      fetched.flatMap((one) => toMirrorWrite(one, context)),
    )
    const disputed = await writeDisputes(
      tx,
      fetched.flatMap((one) => toDisputeWrite(one, context)),
      paymentsBefore,
    )
    const before = await lockAccounts(tx, ids)
    await unlinkGone(tx, fetched)
    const derivations = await deriveAndStore(context, tx, fetched, {
      before,
      mirrored,
      paymentsBefore,
      changed: new Set([...mirrored.changed, ...disputed]),
    })
    await alsoWrite(tx)
    return derivations
  })
  // After the commit: what is counted has happened.
  const recorded = applied.flatMap((derivation) => derivation.recorded)
  if (recorded.length > 0) context.onBillingEvents?.(recorded)
  applied.forEach(({ alerts }, index) => {
    for (const alert of alerts) report(context, fetched[index]!.organization.id, alert)
  })
  return applied.map(({ account }) => account)
}

function toMirrorWrite({ task, organization, state, ...asked }: Fetched, { clock }: BillingContext): MirrorWrite[] {
  if (state === null) return []
  const now = timeOf(organization, clock)
  return [{ ...asked, organizationId: organization.id, now, isComplete: task.scope.complete, state }]
}

function toDisputeWrite({ organization, refreshedAt, state }: Fetched, { clock }: BillingContext): DisputeWrite[] {
  return state === null ? [] : [{ organizationId: organization.id, refreshedAt, now: timeOf(organization, clock), state }]
}

function statesOf(fetched: readonly Fetched[]): readonly StripeState[] {
  return fetched.flatMap(({ state }) => state ?? [])
}

async function unlinkGone(tx: Transaction, fetched: readonly Fetched[]): Promise<void> {
  for (const { organization, state } of fetched) {
    if (state?.customerGone === true) await unlinkCustomer(tx, { organizationId: organization.id, customerId: state.customerId })
  }
}

type Known = {
  readonly before: ReadonlyMap<string, DerivedAccount>
  readonly mirrored: MirrorOutcome
  readonly paymentsBefore: PaymentStates
  /** Organizations of which anything in the mirror has changed. */
  readonly changed: ReadonlySet<string>
}
type Derivation = AccountDerivation & { readonly recorded: readonly BillingEvent[] }

async function deriveAndStore(
  context: BillingContext,
  tx: Transaction,
  fetched: readonly Fetched[],
  { before, mirrored, paymentsBefore, changed }: Known,
): Promise<readonly Derivation[]> {
  const ids = fetched.map(({ organization }) => organization.id)
  const mirror = await readMirror(tx, ids)
  const priceIds = [...mirror.values()].flatMap(priceIdsOf)
  const plansByPrice = await readPlansByPrice(tx, priceIds)
  const soldUntil = await readSoldUntil(tx, priceIds)
  const defaultPlans = await readDefaultPlans(context.catalogs, before)
  const { current } = context.catalogs
  const terms = {
    catalogVersion: current.version,
    defaultPlanKey: current.catalog.defaultPlanKey,
    planKeys: new Set(current.catalog.plans.keys()),
  }
  const derived = fetched.map(({ organization, task }) => {
    const previous = before.get(organization.id) ?? null
    const derivation = deriveAccount({
      ...mirror.get(organization.id)!,
      plansByPrice,
      soldUntil,
      previous:
        previous === null ? null : { ...previous, isDefaultPlan: defaultPlans.get(previous.catalogVersion) === previous.planKey },
      current: terms,
      disputeCounts: context.policy.disputeCounts ?? 'lost',
    })
    // Where neither the mirror nor the account has changed, nothing follows; a complete refetch makes sure of it.
    const isNews = task.scope.complete || changed.has(organization.id) || !isDeepStrictEqual(previous, derivation.account)
    return { organization, previous, derivation, isNews }
  })
  const news = derived.filter(({ isNews }) => isNews)
  await upsertAccounts(
    tx,
    news.map(({ organization, derivation }) => ({ ...derivation.account, organizationId: organization.id })),
    context.clock.now(),
  )
  await refreshAddOns(
    tx,
    news.map(({ organization }) => organization.id),
  )
  await Promise.all(
    news.map(({ organization }) =>
      context.onAccountDerived(tx, { organizationId: organization.id, now: timeOf(organization, context.clock) }),
    ),
  )
  const happened = derived.flatMap(({ organization, previous, derivation }, index) =>
    describeChanges({
      id: newId('chg'),
      before: previous,
      after: derivation.account,
      invoicesBefore: mirrored.invoicesBefore,
      invoices: fetched[index]!.state?.invoices ?? [],
      payments: {
        before: paymentsBefore,
        charges: fetched[index]!.state?.charges ?? [],
        disputes: fetched[index]!.state?.disputes ?? [],
      },
      now: timeOf(organization, context.clock),
    }).map((event) => ({ ...event, organizationId: organization.id })),
  )
  const recorded = await insertBillingEvents(tx, happened, context.clock.now())
  await publishEvents(
    tx,
    ids.flatMap((id) => publishedEvents(id, recorded.get(id) ?? [])),
  )
  return derived.map(({ organization, derivation }) => ({ ...derivation, recorded: recorded.get(organization.id) ?? [] }))
}

/** The default plan of each catalog version that accounts name. */
async function readDefaultPlans(
  catalogs: BillingContext['catalogs'],
  accounts: ReadonlyMap<string, DerivedAccount>,
): Promise<ReadonlyMap<number, string>> {
  const versions = [...new Set([...accounts.values()].map(({ catalogVersion }) => catalogVersion))]
  return new Map(
    await Promise.all(versions.map(async (version) => [version, (await catalogs.get(version)).defaultPlanKey] as const)),
  )
}

function priceIdsOf({ subscriptions }: MirrorState): readonly string[] {
  return subscriptions.flatMap(({ items, scheduled }) => [
    ...items.map(({ priceId }) => priceId),
    ...(scheduled === null ? [] : [scheduled.priceId]),
  ])
}

type OwnEvent = BillingEvent & { readonly organizationId: string }

/** Answers those that were new, by their organizations. */
async function insertBillingEvents(
  tx: Queryable,
  events: readonly OwnEvent[],
  recordedAt: Instant,
): Promise<ReadonlyMap<string, readonly BillingEvent[]>> {
  if (events.length === 0) return new Map()
  const { rows } = await tx.query<{ organizationId: string; key: string }>(
    `insert into billing_events (organization_id, key, kind, data, occurred_at, recorded_at)
     select "organizationId", key, kind, data, "occurredAt", $2
     from jsonb_to_recordset($1) as row ("organizationId" text, key text, kind text, data jsonb, "occurredAt" timestamptz)
     on conflict do nothing returning organization_id as "organizationId", key`,
    [JSON.stringify(events), recordedAt],
  )
  const names = new Set(rows.map(({ organizationId, key }) => `${organizationId}\n${key}`))
  const recorded = new Map<string, BillingEvent[]>()
  for (const { organizationId, ...event } of events) {
    if (!names.has(`${organizationId}\n${event.key}`)) continue
    recorded.set(organizationId, [...(recorded.get(organizationId) ?? []), event])
  }
  return recorded
}

function report(context: BillingContext, organizationId: string, alert: AccountAlert): void {
  const words =
    alert.kind === 'unknown_price'
      ? 'a subscription is sold at a price that no plan has: the plan stays what it was'
      : 'an organization has several live subscriptions'
  context.log.error({ event: `billing.${alert.kind}`, organization_id: organizationId, ...alert }, words)
}
