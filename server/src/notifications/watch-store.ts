import type { Queryable } from '../db/database.ts'
import { rowsTogether } from '../db/together.ts'
import type { Instant } from '../lib/clock.ts'
import type { StandingState } from '../standing/rules.ts'

export type Watch = {
  readonly state: StandingState
  readonly mayUse: boolean
  readonly planKey: string
  /** What there was of features. */
  readonly entitlements: Readonly<Record<string, unknown>>
  readonly changes: number
  readonly dunningSince: Instant | null
  readonly lookAt: Instant | null
}

/** What was seen last; held until the transaction ends. */
export async function lockWatch(tx: Queryable, organizationId: string): Promise<Watch | null> {
  const [row] = await lockWatches(tx, organizationId)
  if (row === undefined) return null
  const { organizationId: _, ...watch } = row
  return watch
}

// What was seen last before there were features, had none.
const lockWatches = rowsTogether(async (tx, organizationIds) => {
  const { rows } = await tx.query<Watch & { readonly organizationId: string }>(
    `select organization_id as "organizationId", state, may_use as "mayUse", plan_key as "planKey",
       coalesce(entitlements, '{}') as entitlements, changes, dunning_since as "dunningSince", look_at as "lookAt"
     from standing_watches where organization_id = any($1) order by organization_id for update`,
    [organizationIds],
  )
  return rows
})

export async function upsertWatch(tx: Queryable, organizationId: string, watch: Watch): Promise<void> {
  await tx.query(
    `insert into standing_watches (organization_id, state, may_use, plan_key, entitlements, changes, dunning_since, look_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8)
     on conflict (organization_id) do update set (state, may_use, plan_key, entitlements, changes, dunning_since, look_at) =
       (excluded.state, excluded.may_use, excluded.plan_key, excluded.entitlements, excluded.changes, excluded.dunning_since,
        excluded.look_at)`,
    [
      organizationId,
      watch.state,
      watch.mayUse,
      watch.planKey,
      JSON.stringify(watch.entitlements),
      watch.changes,
      watch.dunningSince,
      watch.lookAt,
    ],
  )
}

/** Whom to look at, the longest due first. */
export async function listDueWatches(db: Queryable, now: Instant, limit: number): Promise<readonly string[]> {
  const { rows } = await db.query<{ organizationId: string }>(
    `select organization_id as "organizationId" from standing_watches where look_at <= $1 order by look_at limit $2`,
    [now, limit],
  )
  return rows.map(({ organizationId }) => organizationId)
}

export async function postponeWatch(db: Queryable, organizationId: string, lookAt: Instant): Promise<void> {
  await db.query('update standing_watches set look_at = $2 where organization_id = $1', [organizationId, lookAt])
}

/** What reminders name, beside standing. */
export type PaymentFacts = {
  readonly subscriptionId: string | null
  readonly cancelAt: Instant | null
  /** Whether something pays, of whatever kind. */
  readonly hasPaymentMethod: boolean
  /** What pays, where it is a card. */
  readonly card: {
    readonly id: string
    readonly brand: string | null
    readonly last4: string | null
    readonly expMonth: number | null
    readonly expYear: number | null
  } | null
  /** The oldest invoice that is owed. */
  readonly owed: { readonly amountMinor: bigint; readonly currency: string; readonly url: string | null } | null
}

type FactsRow = {
  readonly organizationId: string
  readonly subscriptionId: string | null
  readonly cancelAt: Instant | null
  readonly hasPaymentMethod: boolean
  readonly cardId: string | null
  readonly brand: string | null
  readonly last4: string | null
  readonly expMonth: number | null
  readonly expYear: number | null
  readonly amountMinor: bigint | null
  readonly currency: string | null
  readonly url: string | null
}

const listFacts = rowsTogether(async (tx, organizationIds) => {
  const { rows } = await tx.query<FactsRow>(
    `select account.organization_id as "organizationId", account.subscription_id as "subscriptionId", account.cancel_at as "cancelAt",
       account.payment_method_id is not null as "hasPaymentMethod", card.id as "cardId", card.card_brand as brand,
       card.card_last4 as last4, card.card_exp_month as "expMonth", card.card_exp_year as "expYear",
       owed.amount_remaining_minor as "amountMinor", owed.currency, owed.hosted_invoice_url as url
     from accounts account
     left join stripe_payment_methods card
       on card.organization_id = account.organization_id and card.id = account.payment_method_id and card.type = 'card'
     left join lateral (
       select amount_remaining_minor, currency, hosted_invoice_url from stripe_invoices
       where organization_id = account.organization_id and subscription_id = account.subscription_id
         and status = 'open' and attempted and amount_remaining_minor > 0
       order by finalized_at limit 1
     ) owed on true
     where account.organization_id = any($1)`,
    [organizationIds],
  )
  return rows
})

export async function readPaymentFacts(tx: Queryable, organizationId: string): Promise<PaymentFacts> {
  const [row] = await listFacts(tx, organizationId)
  if (!row) return { subscriptionId: null, cancelAt: null, hasPaymentMethod: false, card: null, owed: null }
  const { subscriptionId, cancelAt, hasPaymentMethod, cardId, brand, last4, expMonth, expYear, amountMinor, currency, url } = row
  return {
    subscriptionId,
    cancelAt,
    hasPaymentMethod,
    card: cardId === null ? null : { id: cardId, brand, last4, expMonth, expYear },
    owed: amountMinor === null || currency === null ? null : { amountMinor, currency, url },
  }
}
