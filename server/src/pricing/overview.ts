import type { UsagePrice } from '../catalog/catalog.ts'
import { tierOf } from '../catalog/tiers.ts'
import type { GrantsContext } from '../grants/actions.ts'
import { minorDigits, toMajorNumber } from '../lib/money.ts'
import { calendarPeriodOf, type Period } from '../lib/period.ts'
import { formatQuantity, quantityToJson, type Quantity } from '../lib/quantity.ts'
import { formatUnitAmount } from '../lib/unit-amount.ts'
import type { UsageContext } from '../metering/api.ts'
import { readBalances, type BalanceReading, type OrganizationReading } from '../metering/reads.ts'
import type { BillingContext } from '../stripe/context.ts'
import { billedOf, billsOf, type Bill, type BillingLine, type ReportedPart } from '../usage/bills.ts'
import { listBillingLines, listReportedParts } from '../usage/bills-store.ts'
import { costAhead, costOfLine, isWithin, usageLines, type PartOfLine, type UsageLine } from './lines.ts'
import { freeReasonOf, type FreeReason } from './rules.ts'
import { listSpansById } from './span-store.ts'
import { sumUse } from './use-store.ts'

export type PricingContext = { readonly billing: BillingContext; readonly usage: UsageContext }

type Figure = number | string

/** What an organization uses and what it costs, as OC-4 and CB-6 name it. */
export type UseOverview = {
  readonly usage: { readonly today: Readonly<Record<string, Figure>>; readonly month: Readonly<Record<string, Figure>> }
  readonly credits: {
    readonly tier: string
    /** The plan's allowance of the period; null is unlimited. */
    readonly included_credits: Figure | null
    /** Granted besides: top-ups, promotions, rollovers. included + extra − used + overage = remaining, but for what is held. */
    readonly extra_credits: Figure | null
    readonly used: Figure
    readonly remaining: Figure | null
    readonly overage: Figure
    /** What of the overage is billed costs, in major units. */
    readonly overage_cost: number
    readonly free_overage: Figure
    readonly free_because: FreeReason | null
    /** Major units; null where overage has no price per unit. */
    readonly price_per_1k: number | null
  }
  readonly tier: string
  readonly balances: readonly {
    readonly balance: string
    readonly name: string
    readonly used: Figure
    readonly limit: Figure | null
    readonly remaining: Figure | null
    readonly overage: Figure
    readonly overage_cost: number
    readonly free_overage: Figure
    readonly free_because: FreeReason | null
    readonly period_start: string
    readonly period_end: string | null
  }[]
}

/** Reads OC-4's figures: today and this month by meter, and the first credit pool of the plan (else its first balance). */
export async function readUseOverview(
  { billing, usage }: Pick<PricingContext, 'billing'> & { readonly usage: GrantsContext },
  organizationId: string,
): Promise<UseOverview> {
  const reading = await readBalances(billing.db, usage, organizationId)
  const { terms, balances, now } = reading
  const zone = reading.account.timeZone ?? terms.catalog.timeZone
  const meters = [...terms.catalog.meters.values()]
  const figuresOf = async (period: Period): Promise<Record<string, Figure>> => {
    const sums = new Map(
      (await sumUse(billing.db, { organizationId, ...period }, meters)).map(({ meter, quantity }) => [meter, quantity]),
    )
    return Object.fromEntries(meters.map(({ key }) => [key, quantityToJson(sums.get(key) ?? 0n)]))
  }
  const [today, month] = await Promise.all([
    figuresOf(calendarPeriodOf('day', zone, now)),
    figuresOf(calendarPeriodOf('month', zone, now)),
  ])
  const tier = tierOf(billing.catalogs.current.catalog, terms.standing.planKey)
  const pool = balances.find(({ balanceKey }) => !terms.catalog.meters.has(balanceKey)) ?? balances[0]
  const billed = await readBilled(billing, reading)
  const charges = new Map(balances.map((balance) => [balance, chargeOf(reading, balance, billed)]))
  return {
    usage: { today, month },
    tier,
    credits: {
      tier,
      included_credits: pool ? jsonOf(includedIn(pool)) : 0,
      extra_credits: pool ? jsonOf(pool.amount === null ? null : pool.amount - (includedIn(pool) ?? 0n)) : 0,
      used: quantityToJson(pool ? pool.used + pool.overage : 0n),
      remaining: pool ? jsonOf(pool.remaining) : 0,
      overage: quantityToJson(pool?.overage ?? 0n),
      ...(pool ? charges.get(pool)! : NOTHING_CHARGED),
      price_per_1k: pool ? perThousand(terms.catalog.currency, priceIn(reading, pool.balanceKey)) : null,
    },
    balances: balances.map((balance) => ({
      balance: balance.balanceKey,
      name: balance.name,
      used: quantityToJson(balance.used + balance.overage),
      limit: jsonOf(balance.amount),
      remaining: jsonOf(balance.remaining),
      overage: quantityToJson(balance.overage),
      ...charges.get(balance)!,
      period_start: balance.periodStart.toISOString(),
      period_end: balance.periodEnd?.toISOString() ?? null,
    })),
  }
}

type Charge = Pick<UseOverview['credits'], 'overage_cost' | 'free_overage' | 'free_because'>

const NOTHING_CHARGED: Charge = { overage_cost: 0, free_overage: 0, free_because: null }

/** What the plan's own allowance of the period is, whatever was granted besides (OC-4). */
function includedIn({ lines }: BalanceReading): Quantity | null {
  return lines.find(({ grant }) => grant.kind === 'plan')?.granted ?? null
}

/** What bills balances: every line there ever was, what those in their running periods cost, and what they bill of each grant. */
type Billed = {
  readonly known: readonly BillingLine[]
  readonly lines: readonly UsageLine[]
  readonly reported: readonly ReportedPart[]
}

async function readBilled({ db }: BillingContext, { account, balances, now }: OrganizationReading): Promise<Billed> {
  const { organizationId } = account
  const known = await listBillingLines(db, { organizationId, balanceKeys: balances.map(({ balanceKey }) => balanceKey) })
  const isRunning = ({ balanceKey, startsAt, endsAt }: BillingLine): boolean =>
    balances.some(
      ({ balanceKey: key, periodStart, periodEnd }) =>
        key === balanceKey && (endsAt > periodStart || startsAt >= periodStart) && (periodEnd === null || startsAt < periodEnd),
    )
  const running = known.filter(isRunning)
  const spans = await listSpansById(db, { organizationId, ids: running.map(({ id }) => id) })
  const grantIds = balances.flatMap(({ lines }) => lines.map(({ grant }) => grant.id))
  const reported = await listReportedParts(db, { organizationId, grantIds })
  return { known, lines: await usageLines(db, { organizationId, now }, spans), reported }
}

/** What of the overage of a balance's running period is billed costs, and what of it is billed nowhere. */
function chargeOf(reading: OrganizationReading, balance: BalanceReading, { known, lines, reported }: Billed): Charge {
  const { account, terms } = reading
  const { balanceKey } = balance
  const plan = balance.lines.find(({ grant }) => grant.kind === 'plan')
  if (plan === undefined) return NOTHING_CHARGED
  const because = freeReasonOf(account)
  const grant = { ...plan.grant, used: plan.used, overage: plan.overage }
  const own = known.filter((line) => line.balanceKey === balanceKey)
  const bills = billsOf(grant, own, reported)
  const { free } = billedOf(grant, bills, { isKnown: own.length > 0, because })
  const costs = lines
    .filter((line) => line.balanceKey === balanceKey && line.reports === 'overage')
    .map((line) => costOfLine(line, partOf(line, reading, { balance, bills })))
  const amountMinor =
    own.length > 0 ? costs.reduce((sum, cost) => sum + cost, 0) : costAhead(priceIn(reading, balanceKey), because, grant)
  return {
    overage_cost: toMajorNumber({ amountMinor, currency: terms.catalog.currency }),
    free_overage: quantityToJson(free?.overage ?? 0n),
    free_because: free?.because ?? null,
  }
}

/** Late use is on a line too, and no overage of this period, but for what was told late of a line of the period that has ended. */
function partOf(
  line: UsageLine,
  { now }: OrganizationReading,
  { balance, bills }: { readonly balance: BalanceReading; readonly bills: readonly Bill[] },
): PartOfLine {
  if (line.lateOf !== null) return bills.some(({ lineId }) => lineId === line.id) ? 'all' : { counted: 0n }
  const period = { start: balance.periodStart, end: balance.periodEnd }
  if (line.lateQuantity === 0n && isWithin(line, period, now)) return 'all'
  const own = bills.filter(({ lineId, late }) => lineId === line.id && !late)
  return { counted: own.reduce((sum, { quantity, credited }) => sum + quantity - credited, 0n) }
}

function jsonOf(quantity: Quantity | null): Figure | null {
  return quantity === null ? null : quantityToJson(quantity)
}

/** The price of overage under the plan that stands; null where it has none. */
export function priceIn({ terms }: OrganizationReading, balanceKey: string): UsagePrice | null {
  return terms.catalog.plans.get(terms.standing.planKey)?.allowances.get(balanceKey)?.overage ?? null
}

/** What a thousand units cost in major units, read off the decimal text: 0.2 cents a unit are 2.00 per thousand. */
function perThousand(currency: string, price: UsagePrice | null): number | null {
  if (price?.model === 'per_unit') return Number(`${formatUnitAmount(price.unitAmount)}e${3 - minorDigits(currency)}`)
  if (price?.model !== 'package') return null
  return Number(`${price.amountMinor}e${3 - minorDigits(currency)}`) / Number(formatQuantity(price.size))
}
