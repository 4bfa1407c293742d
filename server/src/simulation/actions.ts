import type { Catalog } from '../catalog/catalog.ts'
import type { CatalogRegistry } from '../catalog/registry.ts'
import type { Db } from '../db/database.ts'
import { isAdditive } from '../metering/decide/readings.ts'
import { monthsBetween, sellAgain, simulate, type Recorded, type Revenue } from './rules.ts'
import { listBoughtTopUps, listDaysOfUse, listGivenGrants, listSimulatedCustomers, type SimulatedCustomer } from './store.ts'

export type SimulationContext = { readonly db: Db; readonly catalogs: CatalogRegistry }

export type SimulationRequest = {
  readonly catalog: Catalog
  /** Whole months, `YYYY-MM`, both inclusive. */
  readonly from: string
  readonly to: string
  readonly organizationId: string | null
  /** Where a plan has another name in the other catalog. */
  readonly planNames: Readonly<Record<string, string>>
}

export type SimulatedRevenue = { readonly customer: SimulatedCustomer; readonly present: Revenue; readonly other: Revenue | null }

export type PlanSum = {
  readonly planKey: string
  readonly customers: number
  readonly presentMinor: number
  readonly otherMinor: number
}

export type Simulation = {
  readonly months: readonly string[]
  readonly plans: readonly PlanSum[]
  /** By how much they change, the largest first. */
  readonly customers: readonly SimulatedRevenue[]
}

const PAGE = 500

/**
 * Replays recorded use against another catalog, beside the terms that each customer has. `other` is null for a customer whose plan
 * the other catalog does not have; those are left out of the sums.
 */
export async function runSimulation(context: SimulationContext, request: SimulationRequest): Promise<Simulation> {
  const months = monthsBetween(request.from, request.to)
  const customers: SimulatedRevenue[] = []
  let after = ''
  for (;;) {
    const page = await listSimulatedCustomers(context.db, { after, only: request.organizationId, limit: PAGE })
    customers.push(...(await simulatePage(context, request, months, page)))
    if (page.length < PAGE) break
    after = page.at(-1)!.organizationId
  }
  customers.sort((a, b) => Math.abs(differenceOf(b)) - Math.abs(differenceOf(a)))
  return { months, plans: sumByPlan(customers), customers }
}

async function simulatePage(
  { db, catalogs }: SimulationContext,
  { catalog: other, from, to, planNames }: SimulationRequest,
  months: readonly string[],
  page: readonly SimulatedCustomer[],
): Promise<SimulatedRevenue[]> {
  const organizationIds = page.map(({ organizationId }) => organizationId)
  const { timeZone, meters } = catalogs.current.catalog
  const replayed = { organizationIds, from, to, timeZone }
  const levels = [...meters.values()].filter((meter) => !isAdditive(meter))
  const days = await listDaysOfUse(db, replayed, levels)
  const grants = await listGivenGrants(db, replayed)
  const topUps = await listBoughtTopUps(db, replayed)
  return Promise.all(
    page.map(async (customer) => {
      const { organizationId: id, planKey } = customer
      const recorded: Recorded = { days: days.get(id) ?? [], grants: grants.get(id) ?? [], topUps: topUps.get(id) ?? [] }
      const own = await catalogs.get(customer.catalogVersion)
      const present = simulate(own, customer, months, recorded) ?? NOTHING
      const sold = { ...recorded, topUps: sellAgain(other, recorded.topUps) }
      return { customer, present, other: simulate(other, { ...customer, planKey: planNames[planKey] ?? planKey }, months, sold) }
    }),
  )
}

const NOTHING: Revenue = { baseMinor: 0, addOnsMinor: 0, usageMinor: 0, topUpsMinor: 0, refused: new Map() }

export function totalOf({ baseMinor, addOnsMinor, usageMinor, topUpsMinor }: Revenue): number {
  return baseMinor + addOnsMinor + usageMinor + topUpsMinor
}

function differenceOf({ present, other }: SimulatedRevenue): number {
  return other === null ? 0 : totalOf(other) - totalOf(present)
}

function sumByPlan(customers: readonly SimulatedRevenue[]): PlanSum[] {
  const sums = new Map<string, { customers: number; presentMinor: number; otherMinor: number }>()
  for (const { customer, present, other } of customers) {
    if (other === null) continue
    const sum = sums.get(customer.planKey) ?? { customers: 0, presentMinor: 0, otherMinor: 0 }
    sum.customers += 1
    sum.presentMinor += totalOf(present)
    sum.otherMinor += totalOf(other)
    sums.set(customer.planKey, sum)
  }
  return [...sums].map(([planKey, sum]) => ({ planKey, ...sum })).sort((a, b) => (a.planKey < b.planKey ? -1 : 1))
}
