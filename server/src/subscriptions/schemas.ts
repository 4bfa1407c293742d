import { z } from '@hono/zod-openapi'
import { moment } from '../lib/moments.ts'
import { requestKeyHeader } from '../lib/request-key.ts'
import { noticeSchema } from '../standing/notices.ts'
import { STANDING_REASONS } from '../standing/rules.ts'

const plan = z.string().min(1).max(63)
const quantity = z.number().int().min(1).max(100_000)
const interval = z.enum(['monthly', 'yearly'])

/** An operator names the organization; a key's own is meant otherwise. */
export const organizationField = {
  organization_id: z.string().optional().meta({ description: 'For operators: which organization. A key acts on its own.' }),
}

/** Its id stands in the address of a call to Stripe. Stripe's ids have 255 characters at most: https://docs.stripe.com/upgrades */
export const paymentMethodId = z.string().min(1).max(255)

/** Of routes that change something. */
export const keyHeader = requestKeyHeader('Makes a repeat safe: it gets the first answer. A refusal is not kept.')

/** Every preview answers one, and whoever sends it back with the change need not know which changes prorate. */
const unprorated = {
  proration_date: moment.optional().meta({ description: 'From a preview; nothing here depends on it.' }),
}

const planFields = {
  plan: plan.optional().meta({ description: 'The plan.' }),
  tier: plan.optional().meta({ description: 'The same as plan.' }),
  interval: interval.optional().meta({ description: 'Default: monthly where the plan has it.' }),
  quantity: quantity.optional().meta({ description: 'Seats; default 1, or what there is already.' }),
}

export const checkoutSchema = z.object({
  ...organizationField,
  ...planFields,
  price_id: z.string().optional().meta({ description: 'A Stripe price that sells a plan; default: STRIPE_PRICE_ID.' }),
  trial_period_days: z.number().int().min(0).max(730).optional(),
  success_url: z.string().optional().meta({ description: 'Default: STRIPE_SUCCESS_URL.' }),
  cancel_url: z.string().optional().meta({ description: 'Default: STRIPE_CANCEL_URL.' }),
})

export const portalSchema = z.object({
  ...organizationField,
  return_url: z.string().optional().meta({ description: 'Default: STRIPE_PORTAL_RETURN_URL.' }),
})

export const hostedPageSchema = z.object({ id: z.string(), url: z.string() }).openapi('HostedPage')

export const subscribeSchema = z.object({
  ...organizationField,
  ...planFields,
  payment_method_id: paymentMethodId
    .optional()
    .meta({ description: 'Made by Stripe’s form; without one, a trial begins (EM-9).' }),
  trial_period_days: z.number().int().min(0).max(730).optional(),
  discount_code: z.string().min(1).max(50).optional(),
  ...unprorated,
})

export const switchSchema = z.object({
  ...organizationField,
  ...planFields,
  new_tier: plan.optional().meta({ description: 'The plan to change to (EM-10).' }),
  at: z.enum(['now', 'period_end']).optional().meta({ description: 'When; default: up now, down as configured.' }),
  proration_date: moment.optional().meta({ description: 'From a preview: then its amounts hold.' }),
})

export const cancelSchema = z.object({
  ...organizationField,
  immediate: z.boolean().default(false).meta({ description: 'false: at the end of the period (EM-11).' }),
  ...unprorated,
})

export const plainSchema = z.object({ ...organizationField, ...unprorated })

const time = z.iso.datetime().nullable()

const termsSchema = z.object({ tier: z.string(), interval, quantity: z.number().int() }).nullable()

export const previewSchema = z
  .object({
    kind: z.enum([
      'start',
      'switch_now',
      'switch_at_period_end',
      'cancel_now',
      'cancel_at_period_end',
      'undo_cancel',
      'undo_switch',
      'pause',
      'resume',
      'none',
    ]),
    direction: z.enum(['upgrade', 'downgrade', 'interval']).nullable(),
    reason: z
      .string()
      .nullable()
      .meta({ description: 'Why nothing would change, or what a smaller plan that is taken at once leaves unpaid.' }),
    from: termsSchema,
    to: termsSchema,
    effective_at: time,
    currency: z.string().nullable(),
    amount_due_now_minor: z.number().int().meta({ description: 'Charged in the moment of the change.' }),
    credit_minor: z.number().int().meta({ description: 'Credited for unused time; lowers later invoices.' }),
    lines: z.array(
      z.object({
        description: z.string(),
        amount_minor: z.number().int(),
        proration: z.boolean(),
        period_start: z.iso.datetime(),
        period_end: z.iso.datetime(),
      }),
    ),
    next_invoice: z.object({ at: z.iso.datetime(), amount_minor: z.number().int() }).nullable(),
    trial_end: time,
    cancel_at: time,
    proration_date: z.iso.datetime().meta({ description: 'Send it with the change, and these amounts hold.' }),
  })
  .openapi('PlanChangePreview')

const scheduledSchema = z
  .object({
    tier: z.string(),
    interval: z.string(),
    quantity: z.number().int().nullable().meta({ description: 'Seats from then on.' }),
    at: z.iso.datetime(),
  })
  .nullable()

/** What subscribe, upgrade and their kin answer: EM-9 and EM-10 in one. */
export const changedSchema = z
  .object({
    subscription_id: z.string().nullable(),
    status: z.string(),
    tier: z.string(),
    plan: z.string().meta({ description: 'The key of the plan in the catalog.' }),
    interval: interval.nullable(),
    quantity: z.number().int().nullable(),
    trial_end: time,
    billing_cycle_start: time,
    billing_cycle_end: time,
    cancel_at: time,
    scheduled_change: scheduledSchema,
    requires_action: z.boolean().meta({ description: 'The bank asks the customer: send them to payment_url.' }),
    payment_url: z.string().nullable(),
  })
  .openapi('ChangedSubscription')

export const cancelledSchema = z
  .object({
    status: z.literal('cancelled'),
    cancel_at: time.meta({ description: 'When the subscription ends.' }),
    subscription_id: z.string().nullable(),
    tier: z.string().meta({ description: 'The plan until then, or from now on when it was immediate.' }),
  })
  .openapi('CancelledSubscription')

/** OC-1, with what MR-12, EM-15 and CB-6 add. */
export const subscriptionSchema = z
  .object({
    organization_id: z.string(),
    tier: z.string(),
    plan: z.string(),
    status: z.string().meta({ description: 'Stripe’s word, or `none` where nothing is subscribed.' }),
    billing_status: z.string().meta({ description: 'The same, with an operator’s override before it (MR-6).' }),
    standing: z.object({
      state: z.enum(['free', 'trialing', 'active', 'grace', 'suspended', 'paused']),
      may_use: z.boolean(),
      reason: z.enum(STANDING_REASONS),
      since: time.meta({ description: 'When this state began, where that is known.' }),
      until: time,
      notices: z.array(noticeSchema).meta({ description: 'What is not in order, and takes nothing away.' }),
    }),
    subscription_id: z.string().nullable(),
    stripe_customer_id: z.string().nullable(),
    current_period_start: time,
    current_period_end: time,
    cancel_at_period_end: z.boolean(),
    cancel_at: time,
    ended_at: time,
    amount: z.number().meta({ description: 'Major units: 49.00.' }),
    amount_minor: z.number().int(),
    currency: z.string(),
    interval: z.string().nullable().meta({ description: 'month or year.' }),
    quantity: z.number().int().nullable(),
    in_trial: z.boolean(),
    trial_end: time,
    payment_failed: z.boolean(),
    payment_failed_at: time,
    payment_method_id: z.string().nullable(),
    next_invoice_date: time,
    scheduled_change: scheduledSchema,
    synced_at: time.meta({ description: 'How fresh this is: when Stripe was last asked.' }),
  })
  .openapi('Subscription')
