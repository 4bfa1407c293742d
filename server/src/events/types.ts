import { z } from 'zod'

/** In the place of an organization: what is told of the operators' own endpoints, which are told of every organization. */
export const ALL_ORGANIZATIONS = '*'

/** What is documented of a type of event: when it happens, the shape of its data, and an example of that. */
export type EventTypeDefinition<Data extends z.ZodType = z.ZodType> = {
  readonly summary: string
  readonly data: Data
  readonly example: z.input<Data>
}

function define<Data extends z.ZodType>(definition: EventTypeDefinition<Data>): EventTypeDefinition<Data> {
  return definition
}

const time = z.iso.datetime()
const planName = z.string().meta({ description: 'As the catalog calls the plan.' })
const balanceName = z.string().meta({ description: 'As the catalog calls the balance.' })
/** Exact to six places: a number where that holds it, else a decimal text. */
const quantity = z.union([z.number(), z.string()])

const standing = z.object({
  state: z.enum(['free', 'trialing', 'active', 'grace', 'suspended', 'paused']),
  may_use: z.boolean(),
  plan: z.string(),
})

const invoice = z.object({
  invoice_id: z.string(),
  number: z.string().nullable(),
  plan: z.string(),
  currency: z.string(),
  amount_due_minor: z.int(),
  amount_paid_minor: z.int(),
  attempt: z.int(),
  hosted_invoice_url: z.string().nullable(),
})
const exampleInvoice: z.input<typeof invoice> = {
  invoice_id: 'in_1',
  number: 'F4-0002',
  plan: 'pro',
  currency: 'usd',
  amount_due_minor: 2900,
  amount_paid_minor: 2900,
  attempt: 1,
  hosted_invoice_url: 'https://invoice.stripe.com/i/1',
}
const unpaidInvoice = { ...exampleInvoice, amount_paid_minor: 0 }

const subscription = z.object({ subscription_id: z.string(), plan: z.string(), status: z.string() })
const exampleSubscription = { subscription_id: 'sub_1', plan: 'pro', status: 'active' }

const grant = z.object({
  grant_id: z.string(),
  balance: z.string(),
  kind: z.enum(['plan', 'top_up', 'promotion', 'rollover', 'manual']),
  amount: quantity.nullable().meta({ description: 'null is unlimited.' }),
  expires_at: time.nullable(),
})
const exampleGrant: z.input<typeof grant> = {
  grant_id: 'top_up:order-7',
  balance: 'credits',
  kind: 'top_up',
  amount: 500,
  expires_at: null,
}

const dispute = z.object({
  dispute_id: z.string(),
  charge_id: z.string(),
  currency: z.string(),
  amount_minor: z.int(),
  reason: z.string().meta({ description: 'As Stripe names it, e.g. `fraudulent`.' }),
  status: z.string().meta({ description: 'As Stripe names it: `needs_response`, `under_review`, `won`, `lost`, …' }),
  respond_by: time.nullable().meta({ description: 'Until when evidence can be handed in.' }),
})
const exampleDispute: z.input<typeof dispute> = {
  dispute_id: 'du_1',
  charge_id: 'ch_1',
  currency: 'usd',
  amount_minor: 2900,
  reason: 'fraudulent',
  status: 'needs_response',
  respond_by: '2026-03-10T23:59:59.000Z',
}

/** Every type of event that Tollgate tells of. `docs/events.md` is generated from this list. */
export const eventTypes = {
  'customer.state_changed': define({
    summary: 'Whether and how an organization may use the product changed. `before` is null the first time.',
    data: z.object({
      before: standing.nullable(),
      after: standing,
      reason: z.string().meta({ description: 'One sentence for people.' }),
      until: time.nullable().meta({ description: 'When this state ends by itself, where that is known.' }),
    }),
    example: {
      before: { state: 'active', may_use: true, plan: 'pro' },
      after: { state: 'grace', may_use: true, plan: 'pro' },
      reason: 'A payment failed or was charged back. Use goes on until the days of grace are over.',
      until: '2026-03-04T00:00:00.000Z',
    },
  }),
  'customer.entitlements_changed': define({
    summary:
      'What an organization has of the catalog’s features changed: by another plan, an add-on or an operator. Whether it may use them at all is told by `customer.state_changed`.',
    data: z.object({
      entitlements: z
        .record(z.string(), z.union([z.boolean(), z.number(), z.string()]))
        .meta({ description: 'What there is now, by feature; one that is left out is not included.' }),
      changed: z.array(z.string()).meta({ description: 'The features that are other than before.' }),
      plan: z.string(),
    }),
    example: { entitlements: { sso: true, projects: 20, support: 'phone' }, changed: ['sso', 'projects'], plan: 'pro' },
  }),
  'subscription.created': define({
    summary: 'A subscription began to stand: bought, or tried.',
    data: subscription,
    example: exampleSubscription,
  }),
  'subscription.updated': define({
    summary: 'Plan, status or end of a subscription changed; `change` says which.',
    data: z.object({
      subscription_id: z.string().nullable(),
      change: z.enum(['status', 'plan', 'cancel_scheduled', 'cancel_undone']),
      from: z.string().nullable().meta({ description: 'The plan or the status before.' }),
      to: z.string().nullable().meta({ description: 'The plan or the status now.' }),
      cancel_at: time.nullable(),
    }),
    example: { subscription_id: 'sub_1', change: 'plan', from: 'starter', to: 'pro', cancel_at: null },
  }),
  'subscription.canceled': define({
    summary: 'A subscription ended.',
    data: subscription,
    example: { ...exampleSubscription, status: 'canceled' },
  }),
  'subscription.trial_will_end': define({
    summary: 'A trial ends in three days (EM-6), or sooner where it is shorter.',
    data: z.object({
      subscription_id: z.string().nullable().meta({ description: 'null where an operator gave the trial.' }),
      plan: z.string(),
      plan_name: planName,
      trial_ends_at: time,
      payment_method_configured: z.boolean().meta({
        description: 'Of whatever type. A balance at Stripe is none: a trial that needs a payment method ends without one.',
      }),
      cancel_at: time
        .nullable()
        .meta({ description: 'When the subscription ends, where it is cancelled: it does not go on after the trial.' }),
    }),
    example: {
      subscription_id: 'sub_1',
      plan: 'pro',
      plan_name: 'Pro',
      trial_ends_at: '2026-03-14T00:00:00.000Z',
      payment_method_configured: false,
      cancel_at: null,
    },
  }),
  'invoice.created': define({ summary: 'An invoice was finalized.', data: invoice, example: unpaidInvoice }),
  'invoice.paid': define({ summary: 'An invoice was paid.', data: invoice, example: exampleInvoice }),
  'invoice.payment_failed': define({
    summary: 'An attempt to collect an invoice failed.',
    data: invoice,
    example: unpaidInvoice,
  }),
  'payment.refunded': define({
    summary: 'Something of a payment was given back.',
    data: z.object({
      charge_id: z.string(),
      currency: z.string(),
      amount_minor: z.int(),
      amount_refunded_minor: z.int().meta({ description: 'All that has been given back of it by now.' }),
    }),
    example: { charge_id: 'ch_1', currency: 'usd', amount_minor: 2900, amount_refunded_minor: 900 },
  }),
  'dispute.opened': define({
    summary: 'The holder of a card disputes a payment, or asks about it. Answer until `respond_by` in Stripe’s dashboard.',
    data: dispute,
    example: exampleDispute,
  }),
  'dispute.closed': define({
    summary: 'A dispute came to its end; `status` says how.',
    data: dispute,
    example: { ...exampleDispute, status: 'won' },
  }),
  'dunning.reminder': define({
    summary: 'A step of the dunning schedule came: see the guide on notifications.',
    data: z.object({
      step: z.enum(['failed', 'reminder', 'last_warning', 'suspended', 'recovered']),
      payment_failed_at: time,
      suspends_at: time,
      amount_due_minor: z.int().nullable(),
      currency: z.string().nullable(),
      recovery_url: z.string().nullable().meta({ description: 'Where the customer pays: the hosted page of the invoice.' }),
      charged_back: z.object({ dispute_id: z.string(), amount_minor: z.int(), currency: z.string() }).nullable().meta({
        description: 'Where a lost dispute is the reason: `POST /api/v1/billing/disputes/{id}/pay` opens a page for it.',
      }),
    }),
    example: {
      step: 'last_warning',
      payment_failed_at: '2026-03-01T00:00:00.000Z',
      suspends_at: '2026-03-04T00:00:00.000Z',
      amount_due_minor: 2900,
      currency: 'usd',
      recovery_url: 'https://invoice.stripe.com/i/1',
      charged_back: null,
    },
  }),
  'payment_method.expiring': define({
    summary: 'The card that pays is about to expire: 30 and 7 days before.',
    data: z.object({
      payment_method_id: z.string(),
      brand: z.string().nullable(),
      last4: z.string().nullable(),
      exp_month: z.int(),
      exp_year: z.int(),
      days_left: z.int(),
    }),
    example: { payment_method_id: 'pm_1', brand: 'visa', last4: '4242', exp_month: 3, exp_year: 2026, days_left: 30 },
  }),
  'usage.threshold_reached': define({
    summary: 'A share of an allowance is used up.',
    data: z.object({
      grant_id: z.string(),
      balance: z.string(),
      balance_name: balanceName,
      percent: z.number(),
      used: quantity,
      amount: quantity,
      period_end: time.nullable(),
    }),
    example: {
      grant_id: 'plan:credits:month:2026-03-01',
      balance: 'credits',
      balance_name: 'credits',
      percent: 80,
      used: 8000,
      amount: 10_000,
      period_end: '2026-04-01T00:00:00.000Z',
    },
  }),
  'usage.balance_low': define({
    summary: 'Less than a set amount is left of a balance.',
    data: z.object({ balance: z.string(), balance_name: balanceName, remaining: quantity, threshold: quantity }),
    example: { balance: 'credits', balance_name: 'credits', remaining: 90, threshold: 100 },
  }),
  'auto_top_up.stopped': define({
    summary:
      'A payment failed of what is bought by itself, the package is sold no more for this balance (`invalid_request`), or it is not known where the customer is taxed (`tax_location_missing`): nothing more is bought until another method or the address is there, or it is set anew.',
    data: z.object({ balance: z.string(), balance_name: balanceName, top_up: z.string(), code: z.string() }),
    example: { balance: 'credits', balance_name: 'credits', top_up: 'credits_500', code: 'payment_failed' },
  }),
  'grant.created': define({ summary: 'Something was granted beside the plan.', data: grant, example: exampleGrant }),
  'grant.revoked': define({
    summary: 'What was left of a grant was taken back.',
    data: grant.extend({ revoked: quantity }),
    example: { ...exampleGrant, revoked: 120.5 },
  }),
  'grant.expired': define({
    summary: 'A grant ended with something left.',
    data: grant.extend({ expired: quantity }),
    example: { ...exampleGrant, expires_at: '2026-03-01T00:00:00.000Z', expired: 12 },
  }),
  'endpoint.disabled': define({
    summary: 'A webhook endpoint takes nothing more: it failed for three days, or answered 410 Gone.',
    data: z.object({
      endpoint_id: z.string(),
      url: z.string(),
      reason: z.enum(['failing', 'gone']),
      failing_since: time.nullable(),
    }),
    example: {
      endpoint_id: 'we_1',
      url: 'https://example.com/hooks',
      reason: 'failing',
      failing_since: '2026-03-01T00:00:00.000Z',
    },
  }),
  'endpoint.test': define({
    summary: 'Sent when somebody asks for it, to one endpoint.',
    data: z.object({ endpoint_id: z.string() }),
    example: { endpoint_id: 'we_1' },
  }),
} as const

export type EventType = keyof typeof eventTypes

export type EventData<Type extends EventType> = z.input<(typeof eventTypes)[Type]['data']>

/** Something that happened to an organization, about to be stored. */
export type NewEvent = {
  [Type in EventType]: {
    readonly organizationId: string
    readonly type: Type
    /** Makes it once in its organization: it says what, and of which object, e.g. `usage.threshold_reached:<grant>:80`. */
    readonly key: string
    readonly data: EventData<Type>
    /** The organization's time. */
    readonly occurredAt: Date
  }
}[EventType]

export const EVENT_TYPES = Object.keys(eventTypes) as readonly EventType[]

export function isEventType(name: string): name is EventType {
  return Object.hasOwn(eventTypes, name)
}
