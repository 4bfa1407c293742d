import { createHash } from 'node:crypto'
import { z } from '@hono/zod-openapi'
import { calendarPeriodOf } from '../lib/period.ts'
import { quantityToJson } from '../lib/quantity.ts'
import { unitsOf } from '../metering/api.ts'
import { readBalancesOf } from '../metering/reads.ts'
import { balanceBody, balanceSchema, type BalanceBody } from '../metering/wire/bodies.ts'
import { sumPresentUse } from './live-store.ts'
import type { ReadingContext } from './reports.ts'
import { quantityOut } from './schemas.ts'

const sumsSchema = z.object({ events: z.int(), quantity: quantityOut })

export const liveUsageSchema = z
  .object({ meter: z.string(), today: sumsSchema, month: sumsSchema })
  .openapi('LiveUsage', { description: 'Of the present day and calendar month of the organization.' })

/** What a live page shows of an organization: its balances, and what was used today and this month. */
export const liveStateSchema = z
  .object({ balances: z.array(balanceSchema), usage: z.array(liveUsageSchema) })
  .openapi('LiveState')

export type LiveUsage = z.infer<typeof liveUsageSchema>
export type LiveState = { readonly balances: readonly BalanceBody[]; readonly usage: readonly LiveUsage[] }

/** Reads organizations together, in as many statements as for one. */
export async function readLiveStates(
  context: ReadingContext,
  organizationIds: readonly string[],
): Promise<ReadonlyMap<string, LiveState>> {
  const unitOf = unitsOf(context)
  const readings = await readBalancesOf(context.db, context, organizationIds)
  const meters = new Set<string>()
  const spans = [...readings].map(([organizationId, { terms, now }]) => {
    for (const meter of [...terms.catalog.meters.keys(), ...terms.newerMeters.keys()]) meters.add(meter)
    const { start: day } = calendarPeriodOf('day', terms.timeZone, now)
    return { organizationId, day, month: calendarPeriodOf('month', terms.timeZone, now).start }
  })
  const sums = Map.groupBy(await sumPresentUse(context.db, spans, [...meters]), ({ organizationId }) => organizationId)
  return new Map(
    [...readings].map(([organizationId, { balances }]) => [
      organizationId,
      {
        balances: balances.map((balance) => balanceBody(balance, unitOf)),
        usage: (sums.get(organizationId) ?? []).map(({ meter, todayEvents, todayQuantity, monthEvents, monthQuantity }) => ({
          meter,
          today: { events: Number(todayEvents), quantity: quantityToJson(todayQuantity) },
          month: { events: Number(monthEvents), quantity: quantityToJson(monthQuantity) },
        })),
      },
    ]),
  )
}

/** Names a state: the same state has the same name in every process, so that a page that comes back may be told nothing new. */
export function nameOfState(state: LiveState): string {
  return createHash('sha256').update(JSON.stringify(state)).digest('base64url').slice(0, 22)
}

/** What of a state differs from another. */
export function changesBetween(before: LiveState, after: LiveState): LiveState {
  const known = new Set([...before.balances, ...before.usage].map((part) => JSON.stringify(part)))
  const isNew = (part: object): boolean => !known.has(JSON.stringify(part))
  return { balances: after.balances.filter(isNew), usage: after.usage.filter(isNew) }
}

/** Whether something that was there is gone, which no list of changes tells: then the whole is sent again. */
export function lostBetween(before: LiveState, after: LiveState): boolean {
  const names = ({ balances, usage }: LiveState): string[] => [
    ...balances.map(({ balance }) => `balance ${balance}`),
    ...usage.map(({ meter }) => `meter ${meter}`),
  ]
  const present = new Set(names(after))
  return names(before).some((name) => !present.has(name))
}
