import { z } from '@hono/zod-openapi'
import { momentOrDate } from '../lib/moments.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { planKeyOf } from '../catalog/tiers.ts'
import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { SUBSCRIPTION_STATUSES } from '../standing/rules.ts'
import type { PageQuery } from './listing.ts'
import { isPlanKnown } from '../catalog/plans-store.ts'
import type { CommonFilter, Listed, OrganizationFilter } from './lists-store.ts'

const yes = z.enum(['true', 'false']).optional()

type SortKey = 'created' | 'name'
type Sort = SortKey | `-${SortKey}`

/** The parameters that every list of operators takes. */
export const listFields = (limit: number, sorts: readonly SortKey[]) => ({
  limit: z.coerce.number().int().min(1).max(500).default(limit),
  offset: z.coerce.number().int().min(0).max(1_000_000).default(0),
  cursor: z.string().max(1_000).optional().meta({ description: 'The next_cursor of the page before.' }),
  sort: z.enum(sorts.flatMap((sort): Sort[] => [sort, `-${sort}`])).default('-created'),
  search: z
    .string()
    .trim()
    .min(1)
    .max(200)
    .optional()
    .meta({ description: 'Beginning of an id (also Stripe’s), name, e-mail or invoice number; words of name and e-mail.' }),
  created_from: momentOrDate.optional(),
  created_to: momentOrDate.optional(),
})

/** A currency as Stripe writes it. */
export const currencyField = z
  .string()
  .regex(/^[a-z]{3}$/, 'three small letters are expected')
  .optional()

export const organizationFields = {
  plan: z.string().optional(),
  status: z
    .enum([...SUBSCRIPTION_STATUSES, 'none', 'all'])
    .optional()
    .meta({ description: 'Of the subscription, e.g. past_due; none where there is none.' }),
  currency: currencyField,
  delinquent: yes.meta({ description: 'Whether a payment failed and is still due, also of a subscription that has ended.' }),
  has_override: yes.meta({ description: 'Whether an operator set something by hand.' }),
}

/** What every list answers beside its rows. */
export const moreFields = {
  total: z.number().int().meta({ description: 'How many there are in all; at least so many where total_capped is true.' }),
  total_capped: z.boolean().meta({ description: 'Whether there are more than were counted.' }),
  next_cursor: z.string().nullable().meta({ description: 'For the next page; null on the last.' }),
}

type Given = {
  readonly limit: number
  readonly offset: number
  readonly cursor?: string | undefined
  readonly sort: string
  readonly search?: string | undefined
  readonly created_from?: string | undefined
  readonly created_to?: string | undefined
}

export function pageOf({ limit, offset, cursor, sort }: Given): PageQuery {
  return { limit, offset, cursor: cursor ?? null, sort }
}

export function toRange({ search, created_from: from, created_to: to }: Given): CommonFilter {
  return { search: search ?? null, createdFrom: instantOf(from), createdTo: instantOf(to) }
}

type OrganizationQuery = {
  readonly plan?: string | undefined
  readonly status?: string | undefined
  readonly currency?: string | undefined
  readonly delinquent?: 'true' | 'false' | undefined
  readonly has_override?: 'true' | 'false' | undefined
}

/**
 * The key of the plan that a list is filtered by; null for all.
 * @throws DomainError `invalid_request` for one that neither the present catalog has nor anybody who is on an earlier one
 */
export async function toPlanFilter(db: Queryable, catalog: Catalog, named: string | undefined): Promise<string | null> {
  if (named === undefined) return null
  const planKey = planKeyOf(catalog, named)
  if (catalog.plans.has(planKey) || (await isPlanKnown(db, planKey))) return planKey
  const known = [...catalog.plans.keys()].join(', ')
  throw new DomainError('invalid_request', `There is no plan "${named}"; there are ${known}.`, { field: 'plan' })
}

export async function toOrganizationFilter(
  db: Queryable,
  query: OrganizationQuery,
  catalog: Catalog,
): Promise<Omit<OrganizationFilter, keyof CommonFilter>> {
  const flag = (value: 'true' | 'false' | undefined) => (value === undefined ? null : value === 'true')
  return {
    plan: await toPlanFilter(db, catalog, query.plan),
    status: query.status === undefined || query.status === 'all' ? null : query.status,
    currency: query.currency ?? null,
    delinquent: flag(query.delinquent),
    overridden: flag(query.has_override),
  }
}

export function moreOf({ total, capped, nextCursor }: Pick<Listed<unknown>, 'total' | 'capped' | 'nextCursor'>) {
  return { total, total_capped: capped, next_cursor: nextCursor }
}

function instantOf(text: string | undefined): Instant | null {
  return text === undefined ? null : new Date(text)
}
