import type { UsagePrice } from '../../catalog/catalog.ts'
import type { Queryable, Session, Transaction } from '../../db/database.ts'
import type { Instant } from '../../lib/clock.ts'
import { formatQuantity, parseQuantity } from '../../lib/quantity.ts'
import { formatUnitAmount, parseUnitAmount } from '../../lib/unit-amount.ts'
import type { BillingContext } from '../context.ts'
import { performIntent } from '../intents/intents.ts'
import { PLAN_METADATA } from './former-prices.ts'
import type { PushStep } from './push-plan.ts'
import { TERMS_METADATA, USAGE_METADATA, usageLookupKeyOf, type UsageOffer, type UsageStep } from './push-usage.ts'

/** A metered price that is at Stripe. */
export type BilledPrice = UsageOffer & { readonly priceId: string }

const USAGE_STEPS: ReadonlySet<PushStep['kind']> = new Set<UsageStep['kind']>([
  'create_meter',
  'create_usage_product',
  'update_usage_product',
  'create_usage_price',
  'reuse_usage_price',
  'use_usage_price',
])

export function isUsageStep(step: PushStep): step is UsageStep {
  return USAGE_STEPS.has(step.kind)
}

/** Makes a meter, its product or a metered price; answers the price. `made` holds what earlier steps made, by `madeName`. */
export async function executeUsageStep(
  context: BillingContext,
  session: Session,
  step: UsageStep,
  made: Map<string, string>,
): Promise<BilledPrice | null> {
  const call = { organizationId: null, priority: 'background' as const }
  switch (step.kind) {
    case 'create_meter': {
      const { name, eventName, formula } = step
      const meter = await performIntent(context, session, { ...call, kind: 'create_meter', params: { name, eventName, formula } })
      made.set(madeName(step), meter.id)
      return null
    }
    case 'create_usage_product': {
      const params = { name: step.name, description: '', metadata: { [USAGE_METADATA]: step.balanceKey } }
      made.set(madeName(step), (await performIntent(context, session, { ...call, kind: 'create_product', params })).id)
      return null
    }
    case 'update_usage_product': {
      const { productId, name } = step
      await performIntent(context, session, { ...call, kind: 'update_product', params: { productId, name, description: '' } })
      return null
    }
    case 'create_usage_price': {
      const params = {
        productId: step.productId ?? made.get(madeName({ balanceKey: step.balanceKey })) ?? '',
        currency: step.currency,
        meterId: step.meterId ?? made.get(madeName({ eventName: step.eventName })) ?? '',
        terms: step.terms,
        lookupKey: usageLookupKeyOf(step),
        metadata: { [PLAN_METADATA]: step.planKey ?? '', [TERMS_METADATA]: step.fingerprint },
      }
      const { id } = await performIntent(context, session, { ...call, kind: 'create_usage_price', params })
      return { ...step, priceId: id }
    }
    case 'reuse_usage_price': {
      const params = { priceId: step.priceId, lookupKey: usageLookupKeyOf(step) }
      await performIntent(context, session, { ...call, kind: 'sell_price', params })
      return step
    }
    case 'use_usage_price':
      return step
  }
}

/** How what was made is found by later steps: a meter by its events, a product of use by its balance. */
function madeName(thing: { readonly eventName: string } | { readonly balanceKey: string }): string {
  return 'eventName' in thing ? `meter:${thing.eventName}` : `use of:${thing.balanceKey}`
}

/** Writes down which price bills what; those that are not among them sell nothing new any more. */
export async function recordUsagePrices(
  tx: Transaction,
  billed: readonly BilledPrice[],
  catalogVersion: number,
  now: Instant,
): Promise<void> {
  await tx.query('update usage_prices set superseded_at = $2 where superseded_at is null and not stripe_price_id = any($1)', [
    billed.map(({ priceId }) => priceId),
    now,
  ])
  for (const price of billed) {
    await tx.query(
      `insert into usage_prices (stripe_price_id, plan_key, balance, reports, event_name, formula, currency, terms, catalog_version,
         last_catalog_version, created_at)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10)
       on conflict (stripe_price_id) do update set superseded_at = null, last_catalog_version = excluded.last_catalog_version`,
      [
        price.priceId,
        price.planKey,
        price.balanceKey,
        price.reports,
        price.eventName,
        price.formula,
        price.currency,
        JSON.stringify(storedTerms(price.price)),
        catalogVersion,
        now,
      ],
    )
  }
}

/** Which metered price bills what. */
export type UsagePriceRow = Omit<UsageOffer, 'price'> & { readonly priceId: string; readonly price: UsagePrice }

const COLUMNS = `stripe_price_id as "priceId", plan_key as "planKey", balance as "balanceKey", reports, event_name as "eventName",
  formula, currency, terms`

/** The metered prices that sell now. */
export async function listUsageOffers(db: Queryable): Promise<readonly UsagePriceRow[]> {
  const { rows } = await db.query<StoredRow>(`select ${COLUMNS} from usage_prices where superseded_at is null order by balance`)
  return rows.map(toRow)
}

/** All metered prices there ever were, the newest first. */
export async function listAllUsagePrices(db: Queryable): Promise<readonly (UsagePriceRow & { readonly isOffered: boolean })[]> {
  const { rows } = await db.query<StoredRow & { isOffered: boolean }>(
    `select ${COLUMNS}, superseded_at is null as "isOffered" from usage_prices order by superseded_at is null desc, created_at desc, stripe_price_id`,
  )
  return rows.map(({ isOffered, ...row }) => ({ ...toRow(row), isOffered }))
}

/** Metered prices by their ids, those that are superseded too. */
export async function findUsagePrices(db: Queryable, priceIds: readonly string[]): Promise<ReadonlyMap<string, UsagePriceRow>> {
  const { rows } = await db.query<StoredRow>(`select ${COLUMNS} from usage_prices where stripe_price_id = any($1)`, [priceIds])
  return new Map(rows.map((row) => [row.priceId, toRow(row)]))
}

type StoredRow = Omit<UsagePriceRow, 'price'> & { readonly terms: StoredTerms }

function toRow({ terms, ...row }: StoredRow): UsagePriceRow {
  return { ...row, price: priceOfTerms(terms) }
}

/** A price as JSON holds it: decimals as texts. */
type StoredTerms =
  | { readonly model: 'per_unit'; readonly unitAmount: string }
  | { readonly model: 'package'; readonly size: string; readonly amountMinor: number }
  | {
      readonly model: 'graduated' | 'volume'
      readonly tiers: readonly { readonly upTo: string | null; readonly unitAmount: string; readonly flatAmountMinor: number }[]
    }

function storedTerms(price: UsagePrice): StoredTerms {
  switch (price.model) {
    case 'per_unit':
      return { model: price.model, unitAmount: formatUnitAmount(price.unitAmount) }
    case 'package':
      return { model: price.model, size: formatQuantity(price.size), amountMinor: price.amountMinor }
    case 'graduated':
    case 'volume':
      return {
        model: price.model,
        tiers: price.tiers.map(({ upTo, unitAmount, flatAmountMinor }) => ({
          upTo: upTo === null ? null : formatQuantity(upTo),
          unitAmount: formatUnitAmount(unitAmount),
          flatAmountMinor,
        })),
      }
  }
}

function priceOfTerms(terms: StoredTerms): UsagePrice {
  switch (terms.model) {
    case 'per_unit':
      return { model: terms.model, unitAmount: parseUnitAmount(terms.unitAmount, 'terms') }
    case 'package':
      return { model: terms.model, size: parseQuantity(terms.size), amountMinor: terms.amountMinor }
    case 'graduated':
    case 'volume':
      return {
        model: terms.model,
        tiers: terms.tiers.map(({ upTo, unitAmount, flatAmountMinor }) => ({
          upTo: upTo === null ? null : parseQuantity(upTo),
          unitAmount: parseUnitAmount(unitAmount, 'terms'),
          flatAmountMinor,
        })),
      }
  }
}
