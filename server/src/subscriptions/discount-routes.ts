import { createRoute, z } from '@hono/zod-openapi'
import { actorOf, requireOperator, requireScope } from '../auth/principal.ts'
import type { App } from '../http/app.ts'
import { json } from '../http/route-schemas.ts'
import type { BillingContext } from '../stripe/context.ts'
import type { DiscountRow } from './discount-store.ts'
import { createDiscount, readDiscountUse } from './discounts.ts'

const code = z
  .string()
  .trim()
  .regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,49}$/, 'letters, digits, _ and - are expected, at most 50')
const duration = z.enum(['once', 'repeating', 'forever'])

const discountSchema = z
  .object({
    code: z.string(),
    percent_off: z.number().nullable(),
    amount_off: z.number().int().nullable().meta({ description: 'Minor units.' }),
    currency: z.string().nullable(),
    duration,
    duration_in_months: z.number().int().nullable(),
    max_redemptions: z.number().int().nullable(),
    times_redeemed: z.number().int(),
    valid: z.boolean().meta({ description: 'Whether it can still be redeemed.' }),
    created_at: z.iso.datetime(),
  })
  .openapi('Discount')

const bodySchema = z
  .object({
    code,
    percent_off: z.number().positive().max(100).multipleOf(0.01).optional(),
    amount_off: z.number().int().positive().optional().meta({ description: 'Minor units of currency.' }),
    currency: z
      .string()
      .regex(/^[a-z]{3}$/)
      .optional()
      .meta({ description: 'Default: the catalog’s.' }),
    duration: duration.default('once'),
    duration_in_months: z.number().int().min(1).max(120).optional(),
    max_redemptions: z
      .number()
      .int()
      .positive()
      .max(2 ** 31 - 1)
      .optional(),
  })
  .refine((body) => (body.percent_off === undefined) !== (body.amount_off === undefined), {
    error: 'say either percent_off or amount_off',
    path: ['percent_off'],
  })
  .refine((body) => (body.duration === 'repeating') === (body.duration_in_months !== undefined), {
    error: 'goes with the duration "repeating", and only with it',
    path: ['duration_in_months'],
  })

const createRouteOf = createRoute({
  method: 'post',
  path: '/api/v1/billing/discounts',
  tags: ['Discounts'],
  summary: 'Make a discount',
  description: 'For operators. Repeating it with the same terms answers the one that is there.',
  request: { body: { required: true, content: { 'application/json': { schema: bodySchema } } } },
  responses: { 200: json('The discount.', discountSchema) },
})

const readRoute = createRoute({
  method: 'get',
  path: '/api/v1/billing/discounts/{code}',
  tags: ['Discounts'],
  summary: 'A discount, and how often it was redeemed',
  description:
    'The scope `read`. `valid` says whether it can still be redeemed: one that has been redeemed as often as it may be cannot. An unknown code is 404.',
  request: { params: z.object({ code: z.string() }) },
  responses: { 200: json('The discount.', discountSchema) },
})

/** Routes of KF-12. */
export function registerDiscountRoutes(app: App, context: BillingContext): void {
  app.openapi(createRouteOf, async (http) => {
    const principal = requireOperator(http.get('principal'))
    const body = http.req.valid('json')
    const terms = {
      code: body.code,
      percentOff: body.percent_off === undefined ? null : String(body.percent_off),
      amountOffMinor: body.amount_off ?? null,
      currency: body.amount_off === undefined ? null : (body.currency ?? context.catalogs.current.catalog.currency),
      duration: body.duration,
      durationInMonths: body.duration_in_months ?? null,
      maxRedemptions: body.max_redemptions ?? null,
    }
    const asker = { actor: actorOf(principal), requestId: http.get('requestId') }
    return http.json(toView(await createDiscount(context, terms, asker)), 200)
  })
  app.openapi(readRoute, async (http) => {
    requireScope(http.get('principal'), 'read')
    return http.json(toView(await readDiscountUse(context, http.req.valid('param').code)), 200)
  })
}

function toView(row: DiscountRow): z.infer<typeof discountSchema> {
  return {
    code: row.code,
    percent_off: row.percentOff === null ? null : Number(row.percentOff),
    amount_off: row.amountOffMinor,
    currency: row.currency,
    duration: row.duration,
    duration_in_months: row.durationInMonths,
    max_redemptions: row.maxRedemptions,
    times_redeemed: row.timesRedeemed,
    valid: row.valid,
    created_at: row.createdAt.toISOString(),
  }
}
