import { createRoute, z } from '@hono/zod-openapi'
import type { App } from '../http/app.ts'
import { body, json } from '../http/route-schemas.ts'
import type { BillingContext } from '../stripe/context.ts'
import { answerOnce } from '../subscriptions/answer-once.ts'
import { callerOf } from '../subscriptions/routes.ts'
import { keyHeader, organizationField } from '../subscriptions/schemas.ts'
import { changeBillingDetails, readBillingDetails } from './actions.ts'
import type { BillingDetails } from './details.ts'

const tags = ['Billing']
const PATH = '/api/v1/billing/details'

const text = (most: number) => z.string().trim().max(most)
const addressSchema = z
  .strictObject({
    line1: text(200).default(''),
    line2: text(200).default(''),
    city: text(100).default(''),
    postal_code: text(20).default(''),
    state: text(100).default(''),
    country: z
      .string()
      .regex(/^[A-Z]{2}$/, 'two capitals such as DE are expected')
      .meta({ description: 'By ISO 3166-1.' }),
  })
  .openapi('BillingAddress')

const detailsSchema = z
  .object({
    name: z.string().nullable(),
    email: z.string().nullable(),
    address: z
      .object({
        line1: z.string(),
        line2: z.string(),
        city: z.string(),
        postal_code: z.string(),
        state: z.string(),
        country: z.string(),
      })
      .nullable()
      .meta({ description: 'What is not there is empty.' }),
    tax_ids: z.array(
      z.object({
        type: z.string(),
        value: z.string(),
        verification: z.string().nullable().meta({ description: 'pending, verified, unverified or unavailable.' }),
      }),
    ),
  })
  .openapi('BillingDetails')

const changeSchema = z.strictObject({
  ...organizationField,
  name: text(200).min(1).optional().meta({ description: 'Who the invoices are made out to.' }),
  address: addressSchema.optional().meta({ description: 'All of it: what it does not name is empty.' }),
  tax_id: z
    .strictObject({
      type: z
        .string()
        .regex(/^[a-z]{2}(_[a-z]+)+$/, 'a type such as eu_vat is expected')
        .meta({ description: 'As Stripe names them: eu_vat, gb_vat, us_ein, …' }),
      value: text(50).min(1),
    })
    .nullish()
    .meta({ description: 'In place of what there is; null takes that away.' }),
})

const readRoute = createRoute({
  method: 'get',
  path: PATH,
  tags,
  summary: 'Who the invoices are made out to',
  description: 'The scope `read`. From the mirror of Stripe: it answers while Stripe is away.',
  request: { query: z.object(organizationField) },
  responses: { 200: json('The details.', detailsSchema) },
})

const changeRoute = createRoute({
  method: 'put',
  path: PATH,
  tags,
  summary: 'Change who the invoices are made out to',
  description:
    'The scope `admin`. What is not named stays. It counts for invoices from now on; with STRIPE_AUTOMATIC_TAX the address says where they are taxed.',
  request: { headers: keyHeader, body: body(changeSchema) },
  responses: { 200: json('The details as they now are.', detailsSchema) },
})

export function registerBillingDetailsRoutes(app: App, context: BillingContext): void {
  app.openapi(readRoute, async (http) => {
    const { organizationId } = callerOf(http, 'read', http.req.valid('query').organization_id)
    return http.json(show(await readBillingDetails(context.db, organizationId)), 200)
  })
  app.openapi(changeRoute, async (http) => {
    const sent = http.req.valid('json')
    const { organization_id: named, name, address, tax_id: taxId } = sent
    const caller = callerOf(http, 'admin', named)
    const wanted = {
      ...(name === undefined ? {} : { name }),
      ...(address === undefined ? {} : { address }),
      ...(taxId === undefined ? {} : { taxId }),
    }
    const request = { organizationId: caller.organizationId, wanted }
    return http.json(
      await answerOnce(context, caller, { operation: 'details', body: sent }, async (asker) =>
        show(await changeBillingDetails(context, request, asker)),
      ),
      200,
    )
  })
}

function show({ name, email, address, taxIds }: BillingDetails): z.infer<typeof detailsSchema> {
  return {
    name,
    email,
    address: address === null ? null : { ...address },
    tax_ids: taxIds.map(({ type, value, verification }) => ({ type, value, verification })),
  }
}
