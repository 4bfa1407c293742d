import { addOnKeyOf, soldThings } from '../../catalog/add-ons.ts'
import type { Catalog } from '../../catalog/catalog.ts'
import type { CatalogVersion } from '../../catalog/registry.ts'
import type { Queryable, Session } from '../../db/database.ts'
import type { Instant } from '../../lib/clock.ts'
import { DomainError } from '../../lib/errors.ts'
import { formatMajor } from '../../lib/money.ts'
import { requireGateway, type BillingContext } from '../context.ts'
import type { PriceSnapshot, StripeGateway } from '../gateway/gateway.ts'
import { CATALOG_LOCK, finishOwnIntents } from '../intents/finish-intents.ts'
import { performIntent } from '../intents/intents.ts'
import { withOrganizationLock } from '../intents/lock.ts'
import { keptOf, PLAN_METADATA } from './former-prices.ts'
import { lookupKeyOf, planPush, stripeIntervalOf, type PushPrice, type PushStep, type StripeCatalog } from './push-plan.ts'
import { executeUsageStep, isUsageStep, recordUsagePrices, type BilledPrice } from './push-usage-prices.ts'
import { describeUsageStep, METERED_PRICE_VARIABLE, type UsageStep } from './push-usage.ts'

export type PushOptions = {
  /** All variables: a catalog's `priceVariable` names one of them. */
  readonly variables: Readonly<Record<string, string | undefined>>
  /** Told each line before anything is done. */
  readonly print?: (line: string) => void
  readonly dryRun?: boolean
}

export type PushReport = {
  readonly steps: readonly PushStep[]
  /** The steps in words. */
  readonly lines: readonly string[]
  readonly changed: number
}

/**
 * Brings products, prices and meters of the current catalog to Stripe, and records which price sells which plan. Prints the
 * difference first. Doing it again changes nothing; two servers that do it at once do it one after the other; one that broke off is gone on
 * with by the next.
 * @throws DomainError `billing_not_configured`, `invalid_request` when a variable names a price that does not fit, and those of Stripe
 */
export async function pushCatalog(context: BillingContext, options: PushOptions): Promise<PushReport> {
  requireGateway(context)
  return withOrganizationLock(context, CATALOG_LOCK, async (session) => {
    // First, so that what a push that broke off asked for last is found below: made later, it would be there twice.
    if (options.dryRun !== true) await finishOwnIntents(context, session)
    const version = context.catalogs.current
    const { steps, problems } = planPush(
      version.catalog,
      await readStripeCatalog(requireGateway(context), version.catalog, options.variables),
      options.variables,
    )
    if (problems.length > 0) throw new DomainError('invalid_request', problems.join(' '), { problems })
    const lines = steps.map(describeStep)
    for (const line of lines) options.print?.(line)
    const changed = countChanges(steps)
    if (options.dryRun !== true) await execute(context, session, version, steps)
    return { steps, lines, changed }
  })
}

/** How many of the steps change something at Stripe. */
export function countChanges(steps: readonly PushStep[]): number {
  return steps.filter(({ kind }) => kind !== 'use_price' && kind !== 'use_usage_price').length
}

/** What is at Stripe of a catalog, and of others: what `planPush` compares it with. */
export async function readStripeCatalog(
  { reads }: Pick<StripeGateway, 'reads'>,
  catalog: Catalog,
  variables: PushOptions['variables'],
): Promise<StripeCatalog> {
  const [products, prices, meters] = await Promise.all([reads.listProducts(), reads.listPrices(), reads.listMeters()])
  const named = soldThings(catalog).flatMap((plan) =>
    [...plan.prices.values()].flatMap(({ priceVariable }) => (priceVariable === null ? [] : [variables[priceVariable]])),
  )
  named.push(variables[METERED_PRICE_VARIABLE])
  const missing = named.filter((id) => id !== undefined && id !== '' && !prices.some((price) => price.id === id))
  const others = await Promise.all(missing.map((id) => reads.retrievePrice(id!)))
  return {
    products,
    prices: [...prices, ...others.filter((price) => price !== null)],
    meters,
  }
}

async function execute(
  context: BillingContext,
  session: Session,
  version: CatalogVersion,
  steps: readonly PushStep[],
): Promise<void> {
  const made = new Map<string, string>()
  const sold: SoldPrice[] = []
  const billed: BilledPrice[] = []
  for (const step of steps) {
    if (isUsageStep(step)) {
      const offer = await executeUsageStep(context, session, step, made)
      if (offer !== null) billed.push(offer)
      continue
    }
    const price = await executeStep(context, session, step, made)
    if (price !== null) sold.push(price)
  }
  const now = context.clock.now()
  await session.transaction(async (tx) => {
    const isAddOn = ({ planKey }: SoldPrice): boolean => addOnKeyOf(planKey) !== null
    const plans = sold.filter((price) => !isAddOn(price))
    await supersedeOtherPrices(tx, plans, now)
    for (const price of plans) await recordPrice(tx, price, version.version, now)
    await recordAddOnPrices(tx, sold.filter(isAddOn), version.version, now)
    await recordUsagePrices(tx, billed, version.version, now)
  })
}

type SoldPrice = PushPrice & { readonly priceId: string; readonly productId: string }

/** `made` collects what earlier steps made: products by plan, what counts use by names of its own. */
async function executeStep(
  context: BillingContext,
  session: Session,
  step: Exclude<PushStep, UsageStep>,
  made: Map<string, string>,
): Promise<SoldPrice | null> {
  const call = { organizationId: null, priority: 'background' as const }
  switch (step.kind) {
    case 'create_product': {
      const { planKey, name, description } = step
      const params = { name, description, metadata: { [PLAN_METADATA]: planKey } }
      made.set(planKey, (await performIntent(context, session, { ...call, kind: 'create_product', params })).id)
      return null
    }
    case 'update_product': {
      const { productId, name, description } = step
      await performIntent(context, session, { ...call, kind: 'update_product', params: { productId, name, description } })
      return null
    }
    case 'create_price': {
      const productId = step.productId ?? made.get(step.planKey) ?? ''
      const params = {
        productId,
        currency: step.currency,
        unitAmountMinor: step.amountMinor,
        interval: stripeIntervalOf(step.interval),
        lookupKey: lookupKeyOf(step),
        metadata: { [PLAN_METADATA]: step.planKey },
      }
      const { id } = await performIntent(context, session, { ...call, kind: 'create_price', params })
      return { ...step, productId, priceId: id }
    }
    case 'reuse_price': {
      const params = { priceId: step.priceId, lookupKey: lookupKeyOf(step) }
      await performIntent(context, session, { ...call, kind: 'sell_price', params })
      return step
    }
    case 'use_price':
      return step
  }
}

/** Prices that sell nothing new any more, because another took their place or the catalog dropped them. */
async function supersedeOtherPrices(tx: Queryable, sold: readonly SoldPrice[], now: Instant): Promise<void> {
  await tx.query('update plan_prices set superseded_at = $2 where superseded_at is null and not stripe_price_id = any($1)', [
    sold.map(({ priceId }) => priceId),
    now,
  ])
}

async function recordAddOnPrices(tx: Queryable, sold: readonly SoldPrice[], catalogVersion: number, now: Instant): Promise<void> {
  const priceIds = sold.map(({ priceId }) => priceId)
  await tx.query('update add_on_prices set superseded_at = $2 where superseded_at is null and not stripe_price_id = any($1)', [
    priceIds,
    now,
  ])
  for (const { priceId, productId, planKey, interval, amountMinor, currency } of sold) {
    await tx.query(
      `insert into add_on_prices (stripe_price_id, stripe_product_id, add_on_key, price_key, catalog_version, amount_minor, currency,
         created_at)
       values ($1, $2, $3, $4, $5, $6, $7, $8)
       on conflict (stripe_price_id) do update set superseded_at = null`,
      [priceId, productId, addOnKeyOf(planKey), interval, catalogVersion, amountMinor, currency, now],
    )
  }
}

async function recordPrice(tx: Queryable, price: SoldPrice, catalogVersion: number, now: Instant): Promise<void> {
  await tx.query(
    `insert into plan_prices (stripe_price_id, stripe_product_id, plan_key, price_key, catalog_version, last_catalog_version,
       amount_minor, currency, created_at)
     values ($1, $2, $3, $4, $5, $5, $6, $7, $8)
     on conflict (stripe_price_id) do update set
       (plan_key, price_key, amount_minor, currency, superseded_at, last_catalog_version) =
       (excluded.plan_key, excluded.price_key, excluded.amount_minor, excluded.currency, null, excluded.last_catalog_version)`,
    [price.priceId, price.productId, price.planKey, price.interval, catalogVersion, price.amountMinor, price.currency, now],
  )
}

/** One step in words, as `tollgate push` prints it: `+` makes, `~` changes, `=` leaves. */
export function describeStep(step: PushStep): string {
  if (isUsageStep(step)) return describeUsageStep(step)
  switch (step.kind) {
    case 'create_product':
      return `+ product of ${nameOf(step)} (${step.name})`
    case 'update_product':
      return `~ product ${step.productId} of ${nameOf(step)}: name or description`
    case 'create_price':
      return `+ price of ${soldOf(step)}${insteadOf(step)}`
    case 'reuse_price':
      return `~ price ${step.priceId} of ${soldOf(step)} sells again${insteadOf(step)}`
    case 'use_price':
      return `= price ${step.priceId} of ${soldOf(step)}${step.variable === null ? '' : ` (from ${step.variable})`}`
  }
}

function nameOf({ planKey }: { planKey: string }): string {
  const addOnKey = addOnKeyOf(planKey)
  return addOnKey === null ? `plan ${planKey}` : `add-on ${addOnKey}`
}

function soldOf(step: PushPrice): string {
  return `${nameOf(step)}, ${step.interval}: ${amountOf(step)}`
}

function insteadOf({ replaces }: { readonly replaces: PriceSnapshot | null }): string {
  if (replaces === null) return ''
  const { unitAmountMinor, currency } = replaces
  return ` instead of ${amountOf({ amountMinor: unitAmountMinor ?? 0, currency })}${keptOf({ replaces })}`
}

function amountOf({ amountMinor, currency }: { amountMinor: number; currency: string }): string {
  return `${formatMajor({ amountMinor, currency })} ${currency}`
}
