import { createRoute, z } from '@hono/zod-openapi'
import { organizationFor, requireScope } from '../auth/principal.ts'
import type { App } from '../http/app.ts'
import { DomainError } from '../lib/errors.ts'
import { quantityToJson, type Quantity } from '../lib/quantity.ts'
import { unitsOf } from '../metering/api.ts'
import { tellLevels, type LevelsContext } from '../metering/levels.ts'
import { ownBalanceBody } from '../metering/summary.ts'
import { balanceBody, balanceSchema, ownBalanceSchema, type UnitOf } from '../metering/wire/bodies.ts'
import { eventBody, eventSchema } from './events.ts'
import {
  explainBalance,
  explainBalanceAt,
  explainFigure,
  explainGrant,
  explainUse,
  type GrantShare,
  type UseExplanation,
} from './explain.ts'
import type { ReadingContext } from './reports.ts'
import { pageQuery, periodBody, quantityOut, showPeriod, showSums, spanInputOf, spanQuery } from './schemas.ts'

export const shareSchema = z
  .object({
    id: z.string(),
    kind: z.enum(['plan', 'top_up', 'promotion', 'rollover', 'manual']),
    plan: z.string().nullable(),
    priority: z.int(),
    starts_at: z.iso.datetime(),
    expires_at: z.iso.datetime().nullable(),
    reason: z.string().nullable(),
    amount: quantityOut.nullable().meta({ description: 'null is unlimited.' }),
    used: quantityOut,
    overage: quantityOut.meta({ description: 'Used beyond the amount. used + overage is what its events took.' }),
    reserved: quantityOut,
    revoked: quantityOut,
    expired: quantityOut,
    remaining: quantityOut.nullable().meta({ description: 'amount − used − reserved − revoked − expired.' }),
    holds: z
      .array(z.object({ reservation_id: z.string(), meter: z.string(), amount: quantityOut, expires_at: z.iso.datetime() }))
      .meta({ description: 'The open reservations that make up what is reserved.' }),
    bills: z
      .array(
        z.object({
          line: z.string().meta({ description: 'The id of a usage line of `GET /billing/statement`.' }),
          invoice_id: z.string().nullable(),
          start: z.iso.datetime().nullable(),
          end: z.iso.datetime().nullable(),
          quantity: quantityOut,
          credited: quantityOut.meta({ description: 'What of it was taken back after the invoice was closed, and is credited.' }),
          late: z.boolean().meta({ description: 'Counted after the invoice of its own time was closed.' }),
        }),
      )
      .meta({ description: 'The lines on which it is billed. Over all grants they add up to each line’s quantity.' }),
    free_overage: quantityOut.meta({
      description: 'What of the overage is billed nowhere. overage = bills − what of them is credited + free_overage.',
    }),
    free_because: z
      .enum(['trial', 'no_subscription', 'unbilled_time'])
      .nullable()
      .meta({ description: '`unbilled_time`: it was used before the balance was billed, or nothing bills it any more.' }),
    overage_cost: z
      .object({
        currency: z.string(),
        amount_minor: z.int(),
        parts: z.array(z.object({ quantity: quantityOut, amount_minor: z.int(), tier: z.int().nullable(), flat: z.boolean() })),
      })
      .nullable()
      .meta({
        description: 'What is billed of its overage costs, part by part as an invoice has it; null where it has no price.',
      }),
  })
  .openapi('GrantShare')

const events = { events: z.array(eventSchema), next_cursor: z.string().nullable() }

const explanationSchema = z
  .discriminatedUnion('kind', [
    z.object({
      kind: z.literal('use'),
      use: eventSchema,
      reason: z.string().nullable().meta({ description: 'Of a refusal, in words.' }),
      balance_after: balanceSchema.meta({ description: 'As the decision left it.' }),
      counts: quantityOut.meta({ description: 'What it adds to its meter after its corrections.' }),
      credits_used: quantityOut.meta({ description: 'What it takes from the balance after its corrections.' }),
      corrections: z.array(eventSchema),
      grants: z
        .array(shareSchema)
        .meta({ description: 'What it drew from, as it stands now; of a refusal, the plan’s allowance.' }),
    }),
    z.object({ kind: z.literal('balance'), balance: ownBalanceSchema, grants: z.array(shareSchema), ...events }),
    z.object({ kind: z.literal('grants'), balance: z.string(), grants: z.array(shareSchema), ...events }),
    z.object({
      kind: z.literal('figure'),
      ...periodBody,
      meter: z.string(),
      uses: z.int(),
      quantity: quantityOut,
      credits_used: quantityOut,
      overage: quantityOut,
      ...events,
    }),
  ])
  .openapi('UsageExplanation')

const explainRoute = createRoute({
  method: 'get',
  path: '/api/v1/usage/explain',
  tags: ['Usage'],
  summary: 'What made a figure',
  description:
    'Of one use or refusal (`idempotency_key` or `id`): the decision, its corrections, the grants. Of a `balance`, now or `at` a moment of an earlier period, or of a `grant`: each grant, what its overage costs, and the events that took from it. A line of an invoice is explained by `GET /billing/statement/lines/{line}`. Of a `meter` and a span, as of a report: its sum and the events. Events come in pages; over all of them they add up to the figure.',
  request: {
    query: z.object({
      ...spanQuery,
      ...pageQuery,
      idempotency_key: z.string().max(255).optional(),
      id: z.string().max(100).optional().meta({ description: 'Of an event.' }),
      balance: z.string().max(63).optional(),
      grant: z.string().max(200).optional(),
    }),
  },
  responses: { 200: { description: 'The explanation.', content: { 'application/json': { schema: explanationSchema } } } },
})

export function registerExplainRoutes(app: App, context: ReadingContext & Pick<LevelsContext, 'metering'>): void {
  const unitOf = unitsOf(context)
  app.openapi(explainRoute, async (c) => {
    const query = c.req.valid('query')
    const organizationId = organizationFor(requireScope(c.get('principal'), 'read'), query.organization_id)
    const { idempotency_key: key, id, balance, grant, meter, limit, cursor } = query
    if ([key, id, balance, grant, meter].filter((named) => named !== undefined).length !== 1) {
      throw new DomainError(
        'invalid_request',
        'Name what is to be explained: one of idempotency_key, id, balance, grant or meter.',
      )
    }
    // What stands in a period is explained by its event: a level that is not told there yet is told now.
    await tellLevels(context, organizationId)
    if (key !== undefined) return c.json(showUse(await explainUse(context, { organizationId, name: { key } }), unitOf), 200)
    if (id !== undefined) return c.json(showUse(await explainUse(context, { organizationId, name: { id } }), unitOf), 200)
    if (meter !== undefined) {
      const explained = await explainFigure(context, { ...spanInputOf(query, organizationId), meter, limit, cursor })
      const { events: uses, ...sums } = showSums(explained.figure)
      return c.json({ kind: 'figure' as const, ...showPeriod(explained), meter, uses, ...sums, ...showEvents(explained) }, 200)
    }
    if (grant !== undefined || query.at !== undefined) {
      const explained =
        grant === undefined
          ? await explainBalanceAt(context, { organizationId, balanceKey: balance!, at: new Date(query.at!), limit, cursor })
          : await explainGrant(context, { organizationId, grantId: grant, limit, cursor })
      return c.json(
        {
          kind: 'grants' as const,
          balance: explained.balanceKey,
          grants: explained.grants.map(showShare),
          ...showEvents(explained),
        },
        200,
      )
    }
    const explained = await explainBalance(context, { organizationId, balanceKey: balance!, limit, cursor })
    return c.json(
      {
        kind: 'balance' as const,
        balance: ownBalanceBody(explained.balance, unitOf),
        grants: explained.grants.map(showShare),
        ...showEvents(explained),
      },
      200,
    )
  })
}

type Events = Pick<Awaited<ReturnType<typeof explainGrant>>, 'events' | 'nextCursor'>

function showEvents({ events: found, nextCursor }: Events) {
  return { events: found.map(eventBody), next_cursor: nextCursor }
}

function showUse(explained: UseExplanation, unitOf: UnitOf) {
  const { event } = explained
  return {
    kind: 'use' as const,
    use: eventBody(event),
    reason: explained.reason,
    balance_after: balanceBody(event.after, unitOf),
    counts: quantityToJson(explained.counts),
    credits_used: quantityToJson(explained.takes),
    corrections: explained.corrections.map(eventBody),
    grants: explained.grants.map(showShare),
  }
}

export function showShare(share: GrantShare): z.infer<typeof shareSchema> {
  const { grant, amount, expired, remaining, holds, bills, free, cost } = share
  const show = (quantity: Quantity | null): number | string | null => (quantity === null ? null : quantityToJson(quantity))
  return {
    id: grant.id,
    kind: grant.kind,
    plan: grant.planKey,
    priority: grant.priority,
    starts_at: grant.startsAt.toISOString(),
    expires_at: grant.expiresAt?.toISOString() ?? null,
    reason: grant.reason,
    amount: show(amount),
    used: quantityToJson(grant.used),
    overage: quantityToJson(grant.overage),
    reserved: quantityToJson(grant.reserved),
    revoked: quantityToJson(grant.revoked),
    expired: quantityToJson(expired),
    remaining: show(remaining),
    holds: holds.map((hold) => ({
      reservation_id: hold.id,
      meter: hold.meter,
      amount: quantityToJson(hold.amount),
      expires_at: hold.expiresAt.toISOString(),
    })),
    bills: bills.map(({ lineId, invoiceId, period, quantity, credited, late }) => ({
      line: lineId,
      invoice_id: invoiceId,
      start: period?.start.toISOString() ?? null,
      end: period?.end.toISOString() ?? null,
      quantity: quantityToJson(quantity),
      credited: quantityToJson(credited),
      late,
    })),
    free_overage: quantityToJson(free?.overage ?? 0n),
    free_because: free?.because ?? null,
    overage_cost: cost && {
      currency: cost.currency,
      amount_minor: cost.parts.reduce((sum, part) => sum + part.amountMinor, 0),
      parts: cost.parts.map(({ quantity, amountMinor, tier, flat }) => ({
        quantity: quantityToJson(quantity),
        amount_minor: amountMinor,
        tier,
        flat,
      })),
    },
  }
}
