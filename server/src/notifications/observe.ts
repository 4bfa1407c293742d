import { isDeepStrictEqual } from 'node:util'
import type { Db, Transaction } from '../db/database.ts'
import { entitlementsOfAccount } from '../entitlements/actions.ts'
import { deriveEntitlements, summaryOf, type Entitlement } from '../entitlements/rules.ts'
import { publishEvents } from '../events/actions.ts'
import type { EventData, NewEvent } from '../events/types.ts'
import { termsOfAccounts, timeOf, type GrantsContext } from '../grants/actions.ts'
import type { PlanTerms } from '../grants/rules.ts'
import { lockAccount, type AccountRow } from '../grants/store.ts'
import type { Instant } from '../lib/clock.ts'
import { DAY_MS, MINUTE_MS } from '../lib/period.ts'
import type { Standing } from '../standing/rules.ts'
import { reasonInWords } from '../standing/words.ts'
import { listLostDisputes, type InvoiceDispute } from '../stripe/mirror/dispute-store.ts'
import { cardExpiresAt, cardNotices, currentStep, dunningSteps, nextLook, trialNoticeAt, type Reminder } from './rules.ts'
import {
  listDueWatches,
  lockWatch,
  postponeWatch,
  readPaymentFacts,
  upsertWatch,
  type PaymentFacts,
  type Watch,
} from './watch-store.ts'

export type ObservingContext = GrantsContext & {
  /** Days after a failed payment on which the customer is reminded, beside the failure, the last warning and the suspension. */
  readonly dunningDays: readonly number[]
}

/**
 * Looks at where an organization stands, and tells what changed since the last look and what is due: changes of standing, a trial that ends,
 * steps of dunning, a card that expires. Called in each transaction that derives an account, and when time alone may have changed
 * something. Each thing has a key of its own, so looking again tells nothing again. The time is the organization's.
 */
export async function observeAccount(tx: Transaction, context: ObservingContext, organizationId: string): Promise<void> {
  const machineNow = context.clock.now()
  const account = await lockAccount(tx, organizationId)
  if (account === null) return
  const now = timeOf(account, machineNow)
  const terms = (await termsOfAccounts(context, [account], machineNow)).get(organizationId)!
  const { catalog, standing } = terms
  const facts = await readPaymentFacts(tx, organizationId)
  // What is owed without an open invoice was charged back.
  const isChargedBack = owedSince({ standing, account }) !== null && facts.owed === null
  const seen: Seen = {
    organizationId,
    account,
    standing,
    planName: catalog.plans.get(standing.planKey)?.name ?? standing.planKey,
    facts,
    chargedBack: isChargedBack ? ((await listLostDisputes(tx, [organizationId]))[0] ?? null) : null,
    terms,
    entitlements: await entitlementsOfAccount(tx, context, { account, terms, now }),
    now,
    context,
  }
  const before = await lockWatch(tx, organizationId)
  const found = [
    stateChange(seen, before),
    entitlementChange(seen, before),
    trialEnd(seen),
    dunning(seen, before),
    expiringCard(seen),
  ]
  await publishEvents(
    tx,
    found.flatMap(({ events }) => events),
  )
  const entitlements = summaryOf(seen.entitlements)
  const changed = before === null || isOther(before, standing) || !isDeepStrictEqual(before.entitlements, entitlements)
  const watch: Watch = {
    state: standing.state,
    mayUse: standing.mayUse,
    planKey: standing.planKey,
    entitlements,
    changes: (before?.changes ?? 0) + (changed ? 1 : 0),
    dunningSince: owedSince(seen) ?? (account.paymentFailedAt === null ? null : (before?.dunningSince ?? null)),
    lookAt:
      account.testClockNow === null
        ? nextLook([standing.until, account.overrideEndsAt, ...found.flatMap(({ times }) => times)], seen.now)
        : null,
  }
  // Most looks find nothing new, and leave the row alone.
  if (changed || !isDeepStrictEqual(before, watch)) await upsertWatch(tx, organizationId, watch)
}

/** Looks at everybody for whom a time has come; answers how many that were. Any number of servers may do it. */
export async function observeDueAccounts(db: Db, context: ObservingContext): Promise<number> {
  const due = await listDueWatches(db, context.clock.now(), AT_ONCE)
  const failures: unknown[] = []
  for (const organizationId of due) {
    try {
      await db.transaction((tx) => observeAccount(tx, context, organizationId))
    } catch (error) {
      failures.push(error)
      // Whoever cannot be looked at now stands in nobody's way.
      await postponeWatch(db, organizationId, new Date(context.clock.now().getTime() + AFTER_FAILURE_MS))
    }
  }
  if (failures.length > 0) throw new AggregateError(failures, `${failures.length} organizations could not be looked at`)
  return due.length
}

const AT_ONCE = 20
const AFTER_FAILURE_MS = 10 * MINUTE_MS

type Seen = {
  readonly organizationId: string
  readonly account: AccountRow
  readonly standing: Standing
  readonly planName: string
  readonly facts: PaymentFacts
  readonly chargedBack: InvoiceDispute | null
  readonly terms: PlanTerms
  readonly entitlements: readonly Entitlement[]
  readonly now: Instant
  readonly context: ObservingContext
}

/** What is told now, and the times at which there is something to tell. */
type Finding = { readonly events: readonly NewEvent[]; readonly times: readonly Instant[] }

const NOTHING: Finding = { events: [], times: [] }

function isOther(before: Watch, after: Standing): boolean {
  return before.state !== after.state || before.mayUse !== after.mayUse || before.planKey !== after.planKey
}

function stateChange({ organizationId, standing, now }: Seen, before: Watch | null): Finding {
  // Who was never looked at and stands on nothing has not changed.
  const changed = before === null ? standing.reason !== 'no_subscription' : isOther(before, standing)
  if (!changed) return NOTHING
  const data: EventData<'customer.state_changed'> = {
    before: before === null ? null : { state: before.state, may_use: before.mayUse, plan: before.planKey },
    after: { state: standing.state, may_use: standing.mayUse, plan: standing.planKey },
    reason: reasonInWords(standing),
    until: standing.until?.toISOString() ?? null,
  }
  const key = `customer.state_changed:${(before?.changes ?? 0) + 1}`
  return { events: [{ organizationId, type: 'customer.state_changed', key, data, occurredAt: now }], times: [] }
}

/** What there is of features, where that is not what there was; who was never looked at had what goes with the default plan. */
function entitlementChange({ organizationId, terms, entitlements, now, context }: Seen, before: Watch | null): Finding {
  const times = entitlements.flatMap(({ overrideEndsAt }) => overrideEndsAt ?? [])
  const after = summaryOf(entitlements)
  const known = before === null ? defaultEntitlements(terms, context, now) : before.entitlements
  const keys = new Set([...entitlements.map(({ feature }) => feature.key), ...Object.keys(known)])
  const changed = [...keys].filter((key) => known[key] !== after[key])
  if (changed.length === 0) return { events: [], times }
  const data: EventData<'customer.entitlements_changed'> = { entitlements: after, changed, plan: terms.standing.planKey }
  const key = `customer.entitlements_changed:${(before?.changes ?? 0) + 1}`
  return { events: [{ organizationId, type: 'customer.entitlements_changed', key, data, occurredAt: now }], times }
}

function defaultEntitlements(terms: PlanTerms, { catalogs }: ObservingContext, now: Instant): Record<string, unknown> {
  const { catalog } = catalogs.current
  const standing = { ...terms.standing, planKey: catalog.defaultPlanKey }
  return summaryOf(deriveEntitlements({ catalog: terms.catalog, standing }, catalog, [], now))
}

function trialEnd({ organizationId, standing, planName, facts, now }: Seen): Finding {
  const endsAt = standing.state === 'trialing' ? standing.until : null
  if (endsAt === null || endsAt <= now) return NOTHING
  const noticeAt = trialNoticeAt(endsAt)
  const event: NewEvent = {
    organizationId,
    type: 'subscription.trial_will_end',
    key: `subscription.trial_will_end:${facts.subscriptionId}:${endsAt.toISOString()}`,
    data: {
      subscription_id: facts.subscriptionId,
      plan: standing.planKey,
      plan_name: planName,
      trial_ends_at: endsAt.toISOString(),
      payment_method_configured: facts.hasPaymentMethod,
      cancel_at: facts.cancelAt?.toISOString() ?? null,
    },
    occurredAt: now,
  }
  return { events: noticeAt <= now ? [event] : [], times: [noticeAt] }
}

/** Since when the payment is owed about which somebody is to be reminded; null when an operator has decided otherwise. */
function owedSince({ standing, account }: Pick<Seen, 'standing' | 'account'>): Instant | null {
  const owed = standing.reason === 'payment_failed' || standing.reason === 'payment_failed_in_grace'
  return owed ? account.paymentFailedAt : null
}

function dunning(seen: Seen, before: Watch | null): Finding {
  const since = owedSince(seen)
  if (since === null) return recovery(seen, before)
  const steps = dunningSteps({ failedAt: since, suspendsAt: suspensionOf(seen, since) }, seen.context.dunningDays)
  const step = currentStep(steps, seen.now)
  const times = steps.map(({ at }) => at)
  return step === null ? { events: [], times } : { events: [dunningEvent(seen, since, step)], times }
}

/** The customer paid, and stands again. An operator who lets somebody go on has not paid for them. */
function recovery(seen: Seen, before: Watch | null): Finding {
  const since = before?.dunningSince ?? null
  if (since === null || seen.standing.state !== 'active' || seen.account.paymentFailedAt !== null) return NOTHING
  return { events: [dunningEvent(seen, since, { step: 'recovered', at: seen.now })], times: [] }
}

type DunningData = EventData<'dunning.reminder'>

function dunningEvent(seen: Seen, since: Instant, { step, at }: Reminder<DunningData['step']>): NewEvent {
  const { organizationId, facts, chargedBack, now } = seen
  const which = step === 'reminder' ? `${step}:${at.toISOString()}` : step
  return {
    organizationId,
    type: 'dunning.reminder',
    key: `dunning.reminder:${facts.subscriptionId}:${since.toISOString()}:${which}`,
    data: {
      step,
      payment_failed_at: since.toISOString(),
      suspends_at: suspensionOf(seen, since).toISOString(),
      amount_due_minor: facts.owed === null ? null : Number(facts.owed.amountMinor),
      currency: facts.owed?.currency ?? null,
      recovery_url: facts.owed?.url ?? null,
      charged_back:
        chargedBack === null
          ? null
          : { dispute_id: chargedBack.id, amount_minor: chargedBack.amountMinor, currency: chargedBack.currency },
    },
    occurredAt: now,
  }
}

function suspensionOf({ context }: Seen, since: Instant): Instant {
  return new Date(since.getTime() + context.graceDays * DAY_MS)
}

function expiringCard({ organizationId, standing, facts, now }: Seen): Finding {
  const { card } = facts
  const pays = ['active', 'trialing', 'grace'].includes(standing.state) && facts.cancelAt === null
  if (!pays || card === null || card.expMonth === null || card.expYear === null) return NOTHING
  const expiresAt = cardExpiresAt({ month: card.expMonth, year: card.expYear })
  if (expiresAt <= now) return NOTHING
  const notices = cardNotices(expiresAt)
  const due = currentStep(notices, now)
  const times = notices.map(({ at }) => at)
  if (due === null) return { events: [], times }
  const event: NewEvent = {
    organizationId,
    type: 'payment_method.expiring',
    key: `payment_method.expiring:${card.id}:${expiresAt.toISOString()}:${due.step}`,
    data: {
      payment_method_id: card.id,
      brand: card.brand,
      last4: card.last4,
      exp_month: card.expMonth,
      exp_year: card.expYear,
      days_left: Math.ceil((expiresAt.getTime() - now.getTime()) / DAY_MS),
    },
    occurredAt: now,
  }
  return { events: [event], times }
}
