import { createRoute, z } from '@hono/zod-openapi'
import { actorOf, organizationOrAll, requireOperator, requireScope } from '../auth/principal.ts'
import type { Queryable } from '../db/database.ts'
import type { App } from '../http/app.ts'
import { findStart, pageOf, pageQuery } from '../http/page-query.ts'
import { moment } from '../lib/moments.ts'
import { json } from '../http/route-schemas.ts'
import type { Instant } from '../lib/clock.ts'
import { readStandings, type AccountStanding } from './actions.ts'
import { noticeSchema, readNotices, type Notice } from './notices.ts'
import { overrideStanding, type OverrideContext } from './overrides.ts'
import { STANDING_REASONS, type StandingOverride } from './rules.ts'
import {
  findBilledName,
  findOverrideNotes,
  findSubscriptionIds,
  listBilledNames,
  type BilledName,
  type OverrideNote,
} from './store.ts'

const time = z.iso.datetime().nullable()
const status = z.enum(['incomplete', 'incomplete_expired', 'trialing', 'active', 'past_due', 'unpaid', 'canceled', 'paused'])

/** MR-5, with what MR-12 stores. */
const snapshotSchema = z
  .object({
    organization_id: z.string(),
    name: z.string(),
    email: z.string(),
    plan: z.string(),
    billing_status: z
      .string()
      .meta({ description: 'An operator’s override before Stripe’s word; none where nothing is subscribed.' }),
    stripe_customer_id: z.string().nullable(),
    stripe_subscription_id: z.string().nullable(),
    trial_ends_at: time,
    subscription_expires_at: time,
    payment_failed_at: time,
    standing: z.object({
      state: z.string(),
      may_use: z.boolean(),
      reason: z.enum(STANDING_REASONS),
      since: time,
      until: time,
      notices: z.array(noticeSchema),
    }),
    override: z
      .object({
        plan: z.string().nullable(),
        billing_status: status.nullable(),
        trial_ends_at: time,
        subscription_expires_at: time,
        override_expires_at: time.meta({ description: 'From then on, all is as if nothing had been set; null is never.' }),
        reason: z.string().nullable(),
        set_by: z.string().nullable(),
        set_at: time,
      })
      .nullable()
      .meta({ description: 'What an operator set by hand, while it counts.' }),
  })
  .openapi('BillingSnapshot')

const listRoute = createRoute({
  method: 'get',
  path: '/api/v1/admin/billing',
  tags: ['Operators'],
  summary: 'Where each organization stands',
  description: 'Operators see all, or that of one organization; a key with the scope admin sees its own organization.',
  request: {
    query: z.object({
      organization_id: z.string().optional(),
      ...pageQuery({ most: 100, usual: 50 }),
    }),
  },
  responses: { 200: json('A page of them.', z.object({ organizations: z.array(snapshotSchema), has_more: z.boolean() })) },
})

const overrideRoute = createRoute({
  method: 'patch',
  path: '/api/v1/admin/billing/{org_id}',
  tags: ['Operators'],
  summary: 'Override plan, status, end of trial or expiry',
  description:
    'For operators; audited with its reason. A field that is left out stays as it is, null takes it back. With `override_expires_at` all of it counts until then.',
  request: {
    params: z.object({ org_id: z.string() }),
    body: {
      required: true,
      content: {
        'application/json': {
          schema: z.strictObject({
            plan: z.string().nullish(),
            billing_status: status.nullish(),
            trial_ends_at: moment.nullish(),
            subscription_expires_at: moment.nullish(),
            override_expires_at: moment.nullish().meta({ description: 'Until when the override counts; it may be left out.' }),
            reason: z.string().trim().min(1, 'say why').max(1000).meta({ description: 'Why; it is kept in the audit log.' }),
          }),
        },
      },
    },
  },
  responses: { 200: json('Where it stands now.', snapshotSchema) },
})

/** Routes of MR-5 and MR-6. */
export function registerStandingRoutes(app: App, context: OverrideContext): void {
  app.openapi(listRoute, async (http) => {
    const caller = requireScope(http.get('principal'), 'admin')
    const { organization_id: named, limit, starting_after: startingAfter } = http.req.valid('query')
    const only = organizationOrAll(caller, named)
    const last = await findStart(startingAfter, (id) => findBilledName(context.db, { only, id }))
    const found = await listBilledNames(context.db, { only, after: last?.id ?? null, limit: limit + 1 })
    const { page, hasMore } = pageOf(found, limit)
    return http.json({ organizations: await readSnapshots(context, context.db, page), has_more: hasMore }, 200)
  })
  app.openapi(overrideRoute, async (http) => {
    const principal = requireOperator(http.get('principal'))
    const { org_id: organizationId } = http.req.valid('param')
    const body = http.req.valid('json')
    const change = {
      planKey: body.plan,
      status: body.billing_status,
      trialEndsAt: toInstant(body.trial_ends_at),
      expiresAt: toInstant(body.subscription_expires_at),
      endsAt: toInstant(body.override_expires_at),
    }
    const asker = { actor: actorOf(principal), requestId: http.get('requestId') }
    await overrideStanding(context, { organizationId, change, reason: body.reason }, asker)
    const name = await findBilledName(context.db, { only: organizationId, id: organizationId })
    const [snapshot] = await readSnapshots(context, context.db, [name!])
    return http.json(snapshot!, 200)
  })
}

function toInstant(text: string | null | undefined): Instant | null | undefined {
  return text === null || text === undefined ? text : new Date(text)
}

async function readSnapshots(context: OverrideContext, db: Queryable, names: readonly BilledName[]) {
  const ids = names.map(({ id }) => id)
  const standings = await readStandings(db, context, ids)
  const subscriptions = await findSubscriptionIds(db, ids)
  const notes = await findOverrideNotes(db, ids)
  const notices = await readNotices(db, ids)
  return names.flatMap((name) => {
    const read = standings.get(name.id)
    if (read === undefined) return []
    return [
      {
        ...toSnapshot(name, read, { subscriptionId: subscriptions.get(name.id) ?? null, notices: notices.get(name.id) ?? [] }),
        override: toOverrideView(read.override, notes.get(name.id)),
      },
    ]
  })
}

/** What an operator set, as answers show it; null when nothing counts. */
export function toOverrideView(override: StandingOverride | null, note: OverrideNote | undefined) {
  if (override === null) return null
  return {
    plan: override.planKey,
    billing_status: override.status,
    trial_ends_at: iso(override.trialEndsAt),
    subscription_expires_at: iso(override.expiresAt),
    override_expires_at: iso(override.endsAt),
    reason: note?.reason ?? null,
    set_by: note?.setBy ?? null,
    set_at: iso(note?.setAt ?? null),
  }
}

function toSnapshot(
  name: BilledName,
  { account, standing, billingStatus, trialEndsAt, expiresAt }: AccountStanding,
  { subscriptionId, notices }: { readonly subscriptionId: string | null; readonly notices: readonly Notice[] },
): Omit<z.infer<typeof snapshotSchema>, 'override'> {
  return {
    organization_id: name.id,
    name: name.name,
    email: name.email,
    plan: standing.planKey,
    billing_status: billingStatus,
    stripe_customer_id: name.customerId,
    stripe_subscription_id: subscriptionId,
    trial_ends_at: iso(trialEndsAt),
    subscription_expires_at: iso(expiresAt),
    payment_failed_at: iso(account.paymentFailedAt),
    standing: {
      state: standing.state,
      may_use: standing.mayUse,
      reason: standing.reason,
      since: iso(standing.since),
      until: iso(standing.until),
      notices: [...notices],
    },
  }
}

function iso(at: Instant | null): string | null {
  return at?.toISOString() ?? null
}
