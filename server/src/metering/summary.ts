import { z } from '@hono/zod-openapi'
import type { Catalog } from '../catalog/catalog.ts'
import { tierOf } from '../catalog/tiers.ts'
import type { Queryable } from '../db/database.ts'
import { overrideOf, type GrantsContext } from '../grants/actions.ts'
import { DomainError } from '../lib/errors.ts'
import { quantityToJson } from '../lib/quantity.ts'
import type { StandingState } from '../standing/rules.ts'
import { readBalances, type BalanceReading, type OrganizationReading } from './reads.ts'
import { balanceBody, isUsedUp, ownSpendingBody, totalUsed, type OwnBalanceBody, type UnitOf } from './wire/bodies.ts'

export const usageSummarySchema = z
  .object({
    customer_id: z.string(),
    subscription_tier: z.string(),
    credits_used: z.union([z.number(), z.string()]),
    monthly_limit: z.union([z.number(), z.string()]).nullable().meta({ description: 'null is unlimited.' }),
    quota_remaining: z.union([z.number(), z.string()]).nullable(),
    usage_percentage: z.number(),
    quota_exceeded: z.boolean(),
    status: z.enum(['ACTIVE', 'TRIALING', 'GRACE', 'SUSPENDED', 'PAUSED']).meta({ description: 'As EM-7 writes it.' }),
    in_trial: z.boolean(),
    trial_end_date: z.iso.datetime().nullable(),
  })
  .openapi('UsageSummary')

export type UsageSummary = z.infer<typeof usageSummarySchema>

/** Where an organization stands with one of its balances, as EM-8 names it. */
export async function readSummary(
  db: Queryable,
  context: GrantsContext,
  { organizationId, balanceKey }: { organizationId: string; balanceKey: string | undefined },
): Promise<{ readonly summary: UsageSummary; readonly balance: BalanceReading }> {
  // One that the plan does not include, but the catalog knows, is nothing of nothing.
  const known = balanceKey !== undefined && context.catalogs.current.catalog.balances.has(balanceKey)
  const reading = await readBalances(db, context, organizationId, known ? [balanceKey] : [])
  const balance = chooseBalance(reading, balanceKey)
  return { summary: summaryOf(reading, balance, context.catalogs.current.catalog), balance }
}

/** The named balance, else the first credit pool of the plan, else the first balance there is. */
function chooseBalance({ balances, terms }: OrganizationReading, balanceKey: string | undefined): BalanceReading {
  const isPool = (balance: BalanceReading): boolean => !terms.catalog.meters.has(balance.balanceKey)
  const chosen =
    balanceKey === undefined
      ? (balances.find(isPool) ?? balances[0])
      : balances.find((balance) => balance.balanceKey === balanceKey)
  if (chosen) return chosen
  throw new DomainError('not_found', 'The organization has no such balance.', { balance: balanceKey ?? null })
}

/** A customer of the free plan is an active one. */
const STATUS = {
  free: 'ACTIVE',
  active: 'ACTIVE',
  trialing: 'TRIALING',
  grace: 'GRACE',
  suspended: 'SUSPENDED',
  paused: 'PAUSED',
} as const satisfies Readonly<Record<StandingState, UsageSummary['status']>>

function summaryOf({ account, terms, now }: OrganizationReading, balance: BalanceReading, present: Catalog): UsageSummary {
  const { standing } = terms
  const trialEndsAt = overrideOf(account, now)?.trialEndsAt ?? account.trialEndsAt
  const inTrial = standing.state === 'trialing'
  return {
    customer_id: account.organizationId,
    subscription_tier: tierOf(present, standing.planKey),
    credits_used: quantityToJson(totalUsed(balance)),
    monthly_limit: balance.amount === null ? null : quantityToJson(balance.amount),
    quota_remaining: balance.remaining === null ? null : quantityToJson(balance.remaining),
    usage_percentage: percentageOf(balance),
    quota_exceeded: isUsedUp(balance),
    status: STATUS[standing.state],
    in_trial: inTrial,
    trial_end_date: inTrial ? (trialEndsAt?.toISOString() ?? null) : null,
  }
}

/** Percent of the amount, with two decimals; 0 of an unlimited one, 100 of an amount of nothing. */
function percentageOf(balance: BalanceReading): number {
  if (balance.amount === null) return 0
  return balance.amount === 0n ? 100 : Number((totalUsed(balance) * 10_000n) / balance.amount) / 100
}

/** Every balance of an organization, with its limit of spending. */
export async function listBalances(
  db: Queryable,
  context: GrantsContext,
  { organizationId, unitOf }: { organizationId: string; unitOf: UnitOf },
): Promise<readonly OwnBalanceBody[]> {
  const { balances } = await readBalances(db, context, organizationId)
  return balances.map((balance) => ownBalanceBody(balance, unitOf))
}

export function ownBalanceBody(balance: BalanceReading, unitOf: UnitOf): OwnBalanceBody {
  return {
    ...balanceBody(balance, unitOf),
    ...ownSpendingBody(balance.spending),
  }
}
