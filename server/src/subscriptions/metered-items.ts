import { isDeepStrictEqual } from 'node:util'
import type { Plan } from '../catalog/catalog.ts'
import type { Queryable, Session } from '../db/database.ts'
import { AWAY_AFTER } from '../jobs/apart.ts'
import { SECOND_MS } from '../lib/period.ts'
import type { BillingContext } from '../stripe/context.ts'
import { performIntent } from '../stripe/intents/intents.ts'
import { RECENT_SCOPE } from '../stripe/mirror/fetch.ts'
import { syncOrganization } from '../stripe/mirror/sync.ts'
import { listAllUsagePrices, type UsagePriceRow } from '../stripe/push/push-usage-prices.ts'
import { runExclusively } from './actions.ts'
import { listLackingItems, listTermsInUse, type TermsInUse } from './metered-items-store.ts'
import { findAccountSubscription } from './store.ts'

/** A subscription that does not bill use which its terms price, and the metered prices that it lacks. */
export type MeteredGap = { readonly organizationId: string; readonly planKey: string; readonly prices: readonly UsagePriceRow[] }

type KnownPrice = UsagePriceRow & { readonly isOffered: boolean }

/**
 * The metered prices that a plan's subscriptions have, by balance: of each allowance whose overage has a price the one made of those
 * very terms, whether it sells now or not; else the one that is sold with every plan (EM-3). Pure.
 */
export function meteredPricesOf(
  plan: Pick<Plan, 'key' | 'allowances'> | undefined,
  prices: readonly KnownPrice[],
  currency: string,
): readonly UsagePriceRow[] {
  const own = [...(plan?.allowances.values() ?? [])].flatMap(({ balanceKey, overage }) => {
    const made = prices.filter((price) => price.planKey === plan?.key && price.balanceKey === balanceKey)
    const found =
      overage === null ? undefined : made.find((price) => price.currency === currency && isDeepStrictEqual(price.price, overage))
    return found === undefined ? [] : [found]
  })
  const common = prices.filter((price) => price.planKey === null && price.isOffered && price.currency === currency)
  return [...own, ...common.filter(({ balanceKey }) => !own.some((price) => price.balanceKey === balanceKey))]
}

/**
 * Who uses what nobody bills: subscriptions from before their plan had a price of use, or made elsewhere; by organization. Changes nothing.
 * @param limit the most that are answered
 * @param after the organization after which to begin
 */
export async function listMeteredGaps(context: BillingContext, limit: number, after = ''): Promise<readonly MeteredGap[]> {
  const { db, catalogs } = context
  const known = await listAllUsagePrices(db)
  const gaps: MeteredGap[] = []
  if (known.length === 0) return gaps
  for (const terms of await listTermsInUse(db)) {
    const catalog = await catalogs.get(terms.catalogVersion)
    const wanted = meteredPricesOf(catalog.plans.get(terms.planKey), known, terms.currency)
    if (wanted.length > 0) gaps.push(...(await listGapsOf(db, terms, wanted, { limit, after })))
  }
  return gaps.sort((a, b) => (a.organizationId < b.organizationId ? -1 : 1)).slice(0, limit)
}

async function listGapsOf(
  db: Queryable,
  terms: TermsInUse,
  wanted: readonly UsagePriceRow[],
  page: { readonly limit: number; readonly after: string },
): Promise<readonly MeteredGap[]> {
  const balances = wanted.map(({ balanceKey }) => balanceKey)
  const rows = await listLackingItems(db, terms, { balances, ...page })
  return rows.map(({ organizationId, balances: billed }) => ({
    organizationId,
    planKey: terms.planKey,
    prices: wanted.filter(({ balanceKey }) => !billed.includes(balanceKey)),
  }))
}

/**
 * Puts a subscription's missing metered prices onto it. What was used before stays free: nobody is charged for what was not billed when
 * they used it. The caller holds the organization's lock. Answers the prices that came.
 */
export async function addMissingItems(
  context: BillingContext,
  session: Session,
  organizationId: string,
): Promise<readonly string[]> {
  const found = await findAccountSubscription(session, organizationId)
  if (found === null || !BILLING.has(found.status) || found.scheduledAt !== null || found.pendingUpdateExpiresAt !== null)
    return []
  const { rows } = await session.query<{ version: number }>(
    'select catalog_version as version from accounts where organization_id = $1',
    [organizationId],
  )
  const catalog = await context.catalogs.get(rows[0]!.version)
  const known = await listAllUsagePrices(session)
  const billed = new Set(
    known.filter(({ priceId }) => found.usageItems.some((item) => item.priceId === priceId)).map(({ balanceKey }) => balanceKey),
  )
  const lacking = meteredPricesOf(catalog.plans.get(found.planKey), known, found.currency).filter(
    ({ balanceKey }) => !billed.has(balanceKey),
  )
  if (lacking.length === 0) return []
  const priceIds = lacking.map(({ priceId }) => priceId)
  if (found.scheduleId !== null) {
    // Its last phase has begun and has no such item.
    const params = { scheduleId: found.scheduleId }
    await performIntent(context, session, { organizationId, kind: 'release_schedule', params, priority: 'background' })
  }
  await performIntent(context, session, {
    organizationId,
    kind: 'update_subscription',
    params: {
      subscriptionId: found.subscriptionId,
      items: priceIds.map((priceId) => ({ itemId: null, priceId, quantity: null })),
      prorationBehavior: 'none',
    },
    priority: 'background',
    audit: {
      actor: 'system:metered_items',
      requestId: null,
      action: 'subscription.metered_prices_added',
      target: found.subscriptionId,
      before: null,
      after: { prices: priceIds, balances: lacking.map(({ balanceKey }) => balanceKey) },
    },
  })
  await syncOrganization(context, session, organizationId, { scope: RECENT_SCOPE, priority: 'background' })
  return priceIds
}

const BILLING: ReadonlySet<string> = new Set(['active', 'trialing', 'past_due', 'unpaid'])

/** One run looks at so many, or works for so long: each takes about seven calls to Stripe, which others wait for as well. */
const MOST_AT_ONCE = 100
const LONGEST_MS = 20 * SECOND_MS

/** What a run did, and after which organization the next goes on; '' begins anew. */
export type GapsRun = { readonly closed: number; readonly next: string }

/**
 * Adds what is missing to those that come after an organization, as many as one run may. One that fails is told in the log, and
 * keeps none of those after it waiting.
 */
export async function closeMeteredGaps(context: BillingContext, after = '', most = MOST_AT_ONCE): Promise<GapsRun> {
  if (context.gateway === null) return { closed: 0, next: '' }
  const began = context.clock.now().getTime()
  let closed = 0
  let inARow = 0
  let last = after
  const gaps = await listMeteredGaps(context, most, after)
  for (const { organizationId, prices } of gaps) {
    if (context.clock.now().getTime() - began > LONGEST_MS) return { closed, next: last }
    last = organizationId
    try {
      const added = await runExclusively(context, organizationId, (session) => addMissingItems(context, session, organizationId))
      if (added.length > 0) closed += 1
      inARow = 0
    } catch (error) {
      inARow += 1
      context.log.error(
        {
          event: 'billing.use_not_billed',
          organization_id: organizationId,
          prices: prices.map(({ priceId }) => priceId),
          err: error,
        },
        'a subscription does not bill use that its plan prices, and the price could not be added',
      )
      // It is not these that something is wrong with; the next run goes on after them.
      if (inARow === AWAY_AFTER) return { closed, next: last }
    }
  }
  return { closed, next: gaps.length < most ? '' : last }
}
