import { createRoute, z } from '@hono/zod-openapi'
import type { App } from '../http/app.ts'
import { featureValuesSchema, showFeatureValues } from '../entitlements/views.ts'
import { moment } from '../lib/moments.ts'
import { json } from '../http/route-schemas.ts'
import { quantityToJson } from '../lib/quantity.ts'
import type { BillingContext } from '../stripe/context.ts'
import { changeAddOn, listAddOns, previewAddOn } from './add-ons.ts'
import { answerOnce } from './answer-once.ts'
import { callerOf, sentOf } from './routes.ts'
import { keyHeader, organizationField } from './schemas.ts'
import { findAccountSubscription, type AccountSubscription } from './store.ts'

const tags = ['Billing']
const changeSchema = z.object({
  ...organizationField,
  add_on: z.string().min(1).max(63),
  quantity: z.int().min(0).max(1_000_000).meta({ description: 'How many there are to be; 0 ends it.' }),
  proration_date: moment.optional().meta({ description: 'From a preview: then its amounts hold.' }),
})

const addOnsSchema = z.object({
  add_ons: z.array(
    z.object({
      add_on: z.string(),
      name: z.string(),
      quantity: z.int(),
      max_quantity: z.int(),
      purchasable: z.boolean().meta({ description: 'Whether more of it is sold; of one that is no longer, fewer can be had.' }),
      prices: z.record(z.string(), z.int()).meta({ description: 'By interval, in minor units, for one.' }),
      allowances: z.record(z.string(), z.union([z.number(), z.string()])).meta({ description: 'What one adds per period.' }),
      features: featureValuesSchema.meta({ description: 'What one adds to features.' }),
    }),
  ),
})

const changedSchema = addOnsSchema.extend({
  requires_action: z.boolean().meta({ description: 'The bank asks the customer: the change waits for that.' }),
  payment_url: z.string().nullable().meta({ description: 'Where they answer.' }),
})

const previewSchema = z
  .object({
    add_on: z.string(),
    from: z.int(),
    to: z.int(),
    currency: z.string(),
    amount_due_now_minor: z.int(),
    credit_minor: z.int().meta({ description: 'Lowers the next invoice.' }),
    proration_date: z.iso.datetime(),
  })
  .openapi('AddOnPreview')

const PATH = '/api/v1/billing/add-ons'
const body = { required: true, content: { 'application/json': { schema: changeSchema } } }

const listRoute = createRoute({
  method: 'get',
  path: PATH,
  tags,
  summary: 'What can be had beside the plan, and what is',
  description:
    'The scope `read`. Every add-on of the catalog with its prices and what it adds to allowances and features, then those that the subscription has of earlier catalogs; `quantity` is what it has, 0 for none.',
  request: { query: z.object(organizationField) },
  responses: { 200: json('The add-ons.', addOnsSchema) },
})
const changeRoute = createRoute({
  method: 'post',
  path: PATH,
  tags,
  summary: 'Add, change or end an add-on',
  description:
    'More is paid now, for the rest of the period; less is credited on the next invoice. What it adds to allowances and features counts at once.',
  request: { headers: keyHeader, body },
  responses: { 200: json('The add-ons as they now are.', changedSchema) },
})
const previewRoute = createRoute({
  method: 'post',
  path: `${PATH}/preview`,
  tags,
  summary: 'What a change of an add-on would mean',
  description: 'The amounts are Stripe’s own. Changes nothing.',
  request: { body },
  responses: { 200: json('The amounts.', previewSchema) },
})

export function registerAddOnRoutes(app: App, context: BillingContext): void {
  const show = async (found: AccountSubscription | null): Promise<z.infer<typeof addOnsSchema>> => {
    const add_ons = (await listAddOns(context, found)).map(({ addOn, quantity, purchasable }) => ({
      add_on: addOn.key,
      name: addOn.name,
      quantity,
      max_quantity: addOn.maxQuantity,
      purchasable,
      prices: Object.fromEntries([...addOn.prices].map(([interval, { amountMinor }]) => [interval, amountMinor])),
      allowances: Object.fromEntries([...addOn.allowances].map(([key, amount]) => [key, quantityToJson(amount)])),
      features: showFeatureValues(addOn.features),
    }))
    return { add_ons }
  }

  app.openapi(listRoute, async (http) => {
    const { organizationId } = callerOf(http, 'read', http.req.valid('query').organization_id)
    return http.json(await show(await findAccountSubscription(context.db, organizationId)), 200)
  })

  app.openapi(changeRoute, async (http) => {
    const sent = http.req.valid('json')
    const { organization_id: named, add_on: addOnKey, quantity, proration_date: date } = sent
    const caller = callerOf(http, 'admin', named)
    const { organizationId } = caller
    const prorationAt = date === undefined ? null : new Date(date)
    const answer = await answerOnce(context, caller, sentOf('add-ons', sent), async (asker) => {
      await changeAddOn(context, { organizationId, request: { addOnKey, quantity }, prorationAt }, asker)
      const found = await findAccountSubscription(context.db, organizationId)
      const paymentUrl = found?.waitingInvoiceUrl ?? null
      return { ...(await show(found)), requires_action: paymentUrl !== null, payment_url: paymentUrl }
    })
    return http.json(answer, 200)
  })

  app.openapi(previewRoute, async (http) => {
    const { organization_id: named, add_on: addOnKey, quantity } = http.req.valid('json')
    const { organizationId } = callerOf(http, 'admin', named)
    const preview = await previewAddOn(context, organizationId, { addOnKey, quantity })
    return http.json(
      {
        add_on: addOnKey,
        from: preview.change.from,
        to: preview.change.to,
        currency: preview.currency,
        amount_due_now_minor: preview.dueNowMinor,
        credit_minor: preview.creditMinor,
        proration_date: preview.prorationAt.toISOString(),
      },
      200,
    )
  })
}
