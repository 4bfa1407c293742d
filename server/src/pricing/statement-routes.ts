import { createRoute, z } from '@hono/zod-openapi'
import { organizationFor, requireScope } from '../auth/principal.ts'
import type { App } from '../http/app.ts'
import { moment } from '../lib/moments.ts'
import { json } from '../http/route-schemas.ts'
import { tellLevels } from '../metering/levels.ts'
import { quantityToJson } from '../lib/quantity.ts'
import { eventBody, eventSchema } from '../usage/events.ts'
import { shareSchema, showShare } from '../usage/explain-routes.ts'
import { pageQuery } from '../usage/schemas.ts'
import { explainLine } from './explain-line.ts'
import type { UsageLine } from './lines.ts'
import { readStatement, type Statement } from './statement.ts'
import type { PricingContext } from './overview.ts'

const TAGS = ['Bills for use']
const figure = z.union([z.number(), z.string()])
const time = z.iso.datetime()
const period = z.object({ start: time, end: time })
const organizationQuery = { organization_id: z.string().optional().meta({ description: 'Only for operators.' }) }

const lineSchema = z.object({ amount_minor: z.number().int(), period })

const usageLineSchema = lineSchema
  .extend({
    id: z.string().meta({ description: 'Names the line: GET /billing/statement/lines/{id} shows what made it.' }),
    balance: z.string(),
    plan: z.string().nullable(),
    price_id: z.string(),
    included: figure.nullable().meta({ description: 'null is unlimited.' }),
    included_used: figure,
    grants: z.array(z.string()).meta({ description: 'The allowances; /usage/explain?grant=… shows what made their overage.' }),
    quantity: figure.meta({ description: 'What is billed: what went beyond the allowance.' }),
    late_of: z.string().nullable().meta({
      description:
        'Of use that was told late of a line which a change of plan had ended: that line, by whose price it is billed. It costs what the line would have cost with it, less what that came to.',
    }),
    late_quantity: figure.meta({ description: 'What of it was told after the invoice of its own time was closed.' }),
    credited_quantity: figure.meta({
      description: 'What of it was taken back after the invoice was closed: it comes back to the customer’s balance at Stripe.',
    }),
    credited_minor: z
      .number()
      .int()
      .meta({ description: 'What that had cost, before tax and discounts. Not taken off `amount_minor`.' }),
    parts: z.array(
      z.object({ quantity: figure, amount_minor: z.number().int(), tier: z.number().int().nullable(), flat: z.boolean() }),
    ),
    invoice_id: z.string().nullable(),
  })
  .openapi('StatementUsageLine')

const statementSchema = z
  .object({
    organization_id: z.string(),
    currency: z.string(),
    period,
    final: z.boolean().meta({ description: 'Whether its invoice is closed, so that nothing changes any more.' }),
    base: z.array(lineSchema.extend({ price_id: z.string(), quantity: z.number().int(), unit_amount_minor: z.number().int() })),
    usage: z.array(usageLineSchema),
    adjustments: z.array(lineSchema.extend({ description: z.string(), invoice_id: z.string() })),
    total_minor: z.number().int(),
    credited_minor: z
      .number()
      .int()
      .meta({ description: 'What of the lines of use comes back as a credit; not taken off the total.' }),
  })
  .openapi('Statement')

const statementRoute = createRoute({
  method: 'get',
  path: '/api/v1/billing/statement',
  tags: TAGS,
  summary: 'What a period costs: base fee, use, adjustments',
  description:
    'Computed here, equal to the invoice to the cent. Tax, discounts and credits are not in it. The base fee is charged in advance, use when the period ends.',
  request: {
    query: z.object({
      ...organizationQuery,
      period: moment.optional().meta({ description: 'A time within the period; default now.' }),
    }),
  },
  responses: { 200: json('The statement.', statementSchema) },
})

const lineRoute = createRoute({
  method: 'get',
  path: '/api/v1/billing/statement/lines/{line}',
  tags: TAGS,
  summary: 'What made a line of a statement',
  description:
    'The grants whose count the line bills: their `bills` of this line add up to its quantity, late use told apart. And the events that drew from these grants, in pages: over all of them their overage is that of the grants, which is what is billed on this line and others, and what is free.',
  request: {
    params: z.object({ line: z.string().max(300) }),
    query: z.object({ ...organizationQuery, ...pageQuery }),
  },
  responses: {
    200: json(
      'The line and what made it.',
      z.object({
        line: usageLineSchema,
        grants: z.array(shareSchema),
        events: z.array(eventSchema),
        next_cursor: z.string().nullable(),
      }),
    ),
  },
})

/** Routes of the statement and its lines. */
export function registerStatementRoutes(app: App, context: PricingContext): void {
  const { billing, usage } = context
  app.openapi(statementRoute, async (c) => {
    const { organization_id: named, period: at } = c.req.valid('query')
    const organizationId = organizationFor(requireScope(c.get('principal'), 'read'), named)
    await tellLevels(usage, organizationId)
    const statement = await readStatement(billing, { organizationId, at: at === undefined ? null : new Date(at) })
    return c.json(statementBody(statement), 200)
  })
  app.openapi(lineRoute, async (c) => {
    const { organization_id: named, limit, cursor } = c.req.valid('query')
    const organizationId = organizationFor(requireScope(c.get('principal'), 'read'), named)
    await tellLevels(usage, organizationId)
    const { line: lineId } = c.req.valid('param')
    const { line, explained } = await explainLine(context, { organizationId, lineId, limit, cursor })
    return c.json(
      {
        line: usageLineBody(line),
        grants: (explained?.grants ?? []).map(showShare),
        events: (explained?.events ?? []).map(eventBody),
        next_cursor: explained?.nextCursor ?? null,
      },
      200,
    )
  })
}

function periodBody({ start, end }: Statement['period']) {
  return { start: start.toISOString(), end: end.toISOString() }
}

function statementBody(statement: Statement): z.infer<typeof statementSchema> {
  return {
    organization_id: statement.organizationId,
    currency: statement.currency,
    period: periodBody(statement.period),
    final: statement.isFinal,
    base: statement.base.map((line) => ({
      price_id: line.priceId,
      quantity: line.quantity,
      unit_amount_minor: line.unitAmountMinor,
      amount_minor: line.amountMinor,
      period: periodBody(line.period),
    })),
    usage: statement.usage.map(usageLineBody),
    adjustments: statement.adjustments.map((line) => ({
      description: line.description,
      amount_minor: line.amountMinor,
      period: periodBody(line.period),
      invoice_id: line.invoiceId,
    })),
    total_minor: statement.totalMinor,
    credited_minor: statement.creditedMinor,
  }
}

function usageLineBody(line: UsageLine): z.infer<typeof usageLineSchema> {
  return {
    id: line.id,
    balance: line.balanceKey,
    plan: line.planKey,
    price_id: line.priceId,
    included: line.included.amount === null ? null : quantityToJson(line.included.amount),
    included_used: quantityToJson(line.included.used),
    grants: [...line.included.grantIds],
    quantity: quantityToJson(line.quantity),
    late_of: line.lateOf,
    late_quantity: quantityToJson(line.lateQuantity),
    credited_quantity: quantityToJson(line.creditedQuantity),
    credited_minor: line.creditedMinor,
    parts: line.parts.map(({ quantity, amountMinor, tier, flat }) => ({
      quantity: quantityToJson(quantity),
      amount_minor: amountMinor,
      tier,
      flat,
    })),
    amount_minor: line.amountMinor,
    period: periodBody(line.period),
    invoice_id: line.invoiceId,
  }
}
