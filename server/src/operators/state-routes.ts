import { createRoute, z } from '@hono/zod-openapi'
import { listMrrAccounts } from '../analytics/ledger-store.ts'
import { requireOperator } from '../auth/principal.ts'
import { listApiKeys } from '../auth/store.ts'
import { readEntitlements } from '../entitlements/actions.ts'
import { entitlementSchema, featureOverrideSchema, showEntitlements, showFeatureOverrides } from '../entitlements/views.ts'
import { listEvents } from '../events/store.ts'
import { overrideOf } from '../grants/actions.ts'
import { readGrants } from '../grants/giving.ts'
import { grantSchema, showGrant } from '../grants/routes.ts'
import type { App } from '../http/app.ts'
import { invoiceSchema, paymentMethodSchema, toInvoiceView, toPaymentMethodView } from '../invoices/routes.ts'
import { listInvoices, listPaymentMethods } from '../invoices/store.ts'
import { roundHalfUp } from '../lib/apportion.ts'
import type { Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import type { OrganizationId } from '../lib/ids.ts'
import { MICRO, quantityToJson } from '../lib/quantity.ts'
import { listMails } from '../mail/store.ts'
import { readBalances } from '../metering/reads.ts'
import { ownSpendingBody } from '../metering/wire/bodies.ts'
import { listMembers } from '../organizations/members-store.ts'
import { keySchema, showKey } from '../organizations/routes.ts'
import { findOrganization } from '../organizations/store.ts'
import { toOverrideView } from '../standing/routes.ts'
import { findOverrideNotes } from '../standing/store.ts'
import type { BillingContext } from '../stripe/context.ts'
import { listDrifts } from '../stripe/reconcile/drift-store.ts'
import { subscriptionSchema } from '../subscriptions/schemas.ts'
import { findAccountSubscription } from '../subscriptions/store.ts'
import { readSubscription } from '../subscriptions/views.ts'
import { findSyncTimes, listReceivedEvents, sumInvoices } from './state-store.ts'
import { TIMELINE_KINDS, type TimelineKind } from './timeline-store.ts'
import { readTimeline, summarize } from './timeline.ts'
import { describeStanding } from './words.ts'

const time = z.iso.datetime().nullable()
const quantity = z.union([z.number(), z.string()])

const stateSchema = z
  .object({
    organization: z.object({
      id: z.string(),
      name: z.string(),
      email: z.string(),
      stripe_customer_id: z.string().nullable(),
      test_clock_now: time,
      created_at: z.iso.datetime(),
    }),
    explanation: z.string().meta({ description: 'Why it stands where it stands, and what is scheduled, in sentences.' }),
    subscription: subscriptionSchema,
    override: z
      .object({
        plan: z.string().nullable(),
        billing_status: z.string().nullable(),
        trial_ends_at: time,
        subscription_expires_at: time,
        override_expires_at: time,
        set_by: z.string().nullable(),
        set_at: time,
        reason: z.string().nullable(),
      })
      .nullable(),
    revenue: z.array(z.object({ currency: z.string(), mrr_minor: z.number().int(), first_paid_at: time })),
    balances: z.array(
      z.object({
        balance: z.string(),
        amount: quantity.nullable().meta({ description: 'null is unlimited.' }),
        used: quantity,
        overage: quantity,
        reserved: quantity,
        remaining: quantity.nullable(),
        spend_limit_minor: z.int().nullable().meta({ description: 'What use beyond the amount may cost; null without a limit.' }),
        spent_minor: z.int().nullable(),
        currency: z.string().nullable(),
        period_start: z.iso.datetime(),
        period_end: time,
      }),
    ),
    grants: z.array(grantSchema),
    entitlements: z.array(entitlementSchema),
    feature_overrides: z
      .array(featureOverrideSchema)
      .meta({ description: 'What operators set of features, also of those that there are no more.' }),
    invoices: z.object({
      totals: z.array(
        z.object({
          status: z.string(),
          currency: z.string(),
          count: z.number().int(),
          total_minor: z.number().int(),
          remaining_minor: z.number().int(),
        }),
      ),
      latest: z.array(invoiceSchema),
    }),
    payment_methods: z.array(paymentMethodSchema),
    api_keys: z.array(keySchema),
    members: z.array(z.object({ user_id: z.string(), name: z.string(), email: z.string(), role: z.string() })),
    stripe: z.object({
      synced_at: time,
      reconciled_at: time,
      events: z.array(
        z.object({
          id: z.string(),
          type: z.string(),
          received_at: z.iso.datetime(),
          handled_at: time,
          failed: z.boolean(),
          last_error: z.string().nullable(),
        }),
      ),
      drift: z.array(z.object({ object_type: z.string(), object_id: z.string(), field: z.string(), found_at: z.iso.datetime() })),
    }),
    notifications: z.object({
      events: z.array(z.object({ id: z.string(), type: z.string(), occurred_at: z.iso.datetime() })),
      mails: z.array(
        z.object({
          id: z.string(),
          kind: z.string(),
          recipient: z.string(),
          subject: z.string(),
          state: z.string(),
          created_at: z.iso.datetime(),
        }),
      ),
    }),
  })
  .openapi('OrganizationState')

const params = z.object({ organization_id: z.string().meta({ description: 'The organization.' }) })

const stateRoute = createRoute({
  method: 'get',
  path: '/api/v1/admin/organizations/{organization_id}',
  tags: ['Operators'],
  summary: 'Everything about an organization, with the reason for its standing in words',
  description: 'Lists are cut to the latest; each has its own route for the rest.',
  request: { params },
  responses: { 200: { description: 'Its state now.', content: { 'application/json': { schema: stateSchema } } } },
})

const entrySchema = z
  .object({
    at: z.iso.datetime().meta({ description: 'When it was written down here; data.occurred_at is the organization’s own time.' }),
    kind: z.enum(TIMELINE_KINDS),
    id: z.string(),
    summary: z.string(),
    data: z.record(z.string(), z.unknown()),
  })
  .openapi('TimelineEntry')

const timelineRoute = createRoute({
  method: 'get',
  path: '/api/v1/admin/organizations/{organization_id}/timeline',
  tags: ['Operators'],
  summary: 'What happened to an organization, newest first',
  description:
    'Stripe’s events, changes of state and plan, revenue, mails, overrides and other audited acts, grants, and refusals in sum by day.',
  request: {
    params,
    query: z.object({
      limit: z.coerce.number().int().min(1).max(200).default(50),
      cursor: z.string().max(1_000).optional(),
      kind: z.enum(TIMELINE_KINDS).optional(),
    }),
  },
  responses: {
    200: {
      description: 'A page.',
      content: {
        'application/json': { schema: z.object({ entries: z.array(entrySchema), next_cursor: z.string().nullable() }) },
      },
    },
  },
})

/** How many of what there are many. */
const LATEST = 10

export function registerOrganizationStateRoutes(app: App, context: BillingContext): void {
  app.openapi(stateRoute, async (http) => {
    requireOperator(http.get('principal'))
    return http.json(await readState(context, http.req.valid('param').organization_id as OrganizationId), 200)
  })
  app.openapi(timelineRoute, async (http) => {
    requireOperator(http.get('principal'))
    const organizationId = http.req.valid('param').organization_id as OrganizationId
    await requireOrganization(context, organizationId)
    const { limit, cursor, kind } = http.req.valid('query')
    const kinds: readonly TimelineKind[] = kind === undefined ? TIMELINE_KINDS : [kind]
    const { entries, nextCursor } = await readTimeline(context.db, { organizationId, kinds, limit, cursor: cursor ?? null })
    const views = entries.map((entry) => ({
      at: entry.at.toISOString(),
      kind: entry.kind,
      id: entry.id,
      summary: summarize(entry),
      data: entry.data,
    }))
    return http.json({ entries: views, next_cursor: nextCursor }, 200)
  })
}

async function requireOrganization({ db }: BillingContext, id: OrganizationId) {
  const organization = await findOrganization(db, id)
  if (organization === null) throw new DomainError('not_found', 'There is no such organization.')
  return organization
}

async function readState(context: BillingContext, id: OrganizationId): Promise<z.infer<typeof stateSchema>> {
  const { db } = context
  const organization = await requireOrganization(context, id)
  const grants = { ...context, graceDays: context.policy.graceDays }
  const reading = await readBalances(db, grants, id)
  const entitlements = await readEntitlements(db, grants, id)
  return {
    organization: {
      id,
      name: organization.name,
      email: organization.email,
      stripe_customer_id: organization.stripeCustomerId,
      test_clock_now: iso(organization.testClockNow),
      created_at: organization.createdAt.toISOString(),
    },
    explanation: describeStanding(reading.terms.standing, await findAccountSubscription(db, id)),
    subscription: await readSubscription(context, db, id),
    override: toOverrideView(overrideOf(reading.account, reading.now), (await findOverrideNotes(db, [id])).get(id)),
    revenue: (await listMrrAccounts(db, id)).map(({ currency, mrr, firstPaidAt }) => ({
      currency,
      mrr_minor: Number(roundHalfUp(mrr, MICRO)),
      first_paid_at: iso(firstPaidAt),
    })),
    balances: reading.balances.map((balance) => ({
      balance: balance.balanceKey,
      amount: balance.amount === null ? null : quantityToJson(balance.amount),
      used: quantityToJson(balance.used),
      overage: quantityToJson(balance.overage),
      reserved: quantityToJson(balance.reserved),
      remaining: balance.remaining === null ? null : quantityToJson(balance.remaining),
      ...ownSpendingBody(balance.spending),
      period_start: balance.periodStart.toISOString(),
      period_end: iso(balance.periodEnd),
    })),
    grants: (await readGrants(grants, id)).slice(0, LATEST).map(showGrant),
    entitlements: showEntitlements(entitlements),
    feature_overrides: showFeatureOverrides(entitlements),
    ...(await readMoney(context, id)),
    api_keys: (await listApiKeys(db, id)).map(showKey),
    members: (await listMembers(db, id)).map(({ userId, name, email, role }) => ({ user_id: userId, name, email, role })),
    stripe: await readStripe(context, id),
    notifications: await readNotifications(context, id),
  }
}

async function readMoney({ db }: BillingContext, id: OrganizationId) {
  const latest = await listInvoices(db, { organizationId: id, status: null, limit: LATEST, before: null })
  return {
    invoices: {
      totals: (await sumInvoices(db, id)).map(({ status, currency, count, totalMinor, remainingMinor }) => ({
        status,
        currency,
        count,
        total_minor: totalMinor,
        remaining_minor: remainingMinor,
      })),
      latest: latest.map(toInvoiceView),
    },
    payment_methods: (await listPaymentMethods(db, id)).map(toPaymentMethodView),
  }
}

async function readStripe({ db }: BillingContext, id: OrganizationId) {
  const { syncedAt, reconciledAt } = await findSyncTimes(db, id)
  const drifts = await listDrifts(db, { organizationId: id, after: null, limit: LATEST })
  return {
    synced_at: iso(syncedAt),
    reconciled_at: iso(reconciledAt),
    events: (await listReceivedEvents(db, id, LATEST)).map((event) => ({
      id: event.id,
      type: event.type,
      received_at: event.receivedAt.toISOString(),
      handled_at: iso(event.handledAt),
      failed: event.parkedAt !== null,
      last_error: event.lastError,
    })),
    drift: drifts.map(({ objectType, objectId, field, foundAt }) => ({
      object_type: objectType,
      object_id: objectId,
      field,
      found_at: foundAt.toISOString(),
    })),
  }
}

async function readNotifications({ db }: BillingContext, id: OrganizationId) {
  const events = await listEvents(db, { organizationId: id, type: null, before: null, limit: LATEST })
  const mails = await listMails(db, { organizationId: id, recipient: null, state: null, limit: LATEST })
  return {
    events: events.map((event) => ({ id: event.id, type: event.type, occurred_at: event.occurredAt.toISOString() })),
    mails: mails.map((mail) => ({
      id: mail.id,
      kind: mail.kind,
      recipient: mail.recipient,
      subject: mail.subject,
      state: mail.state,
      created_at: mail.createdAt.toISOString(),
    })),
  }
}

function iso(at: Instant | null): string | null {
  return at?.toISOString() ?? null
}
