import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { actorOf, organizationFor, requireScope, type Principal, type Scope } from '../auth/principal.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { planNamedBy } from '../catalog/tiers.ts'
import type { AppEnv } from '../http/app-env.ts'
import type { App } from '../http/app.ts'
import { json } from '../http/route-schemas.ts'
import { DomainError } from '../lib/errors.ts'
import type { SentRequest } from '../lib/sent-request.ts'
import type { BillingContext } from '../stripe/context.ts'
import { changePlan, previewChange } from './actions.ts'
import { answerOnce, type KeyedCaller } from './answer-once.ts'
import { openCheckout, openPortal } from './checkout.ts'
import { readDiscount } from './discounts.ts'
import type { PlanChangeRequest } from './plan-change.ts'
import {
  cancelledSchema,
  cancelSchema,
  changedSchema,
  checkoutSchema,
  hostedPageSchema,
  keyHeader,
  organizationField,
  plainSchema,
  portalSchema,
  previewSchema,
  subscribeSchema,
  subscriptionSchema,
  switchSchema,
} from './schemas.ts'
import { readChanged, readSubscription, toPreviewView, type ChangedView } from './views.ts'

const tags = ['Billing']

type PostParts<Body, Answer> = {
  readonly summary: string
  readonly body: Body
  readonly answer: Answer
  readonly description?: string
}

/** What changes nothing here, so that a repeat needs no key. */
const unkeyedRoute = <Body extends z.ZodType, Answer extends z.ZodType>(
  path: string,
  { summary, body, answer, description }: PostParts<Body, Answer>,
) =>
  createRoute({
    method: 'post',
    path: `/api/v1/billing/${path}`,
    tags,
    summary,
    ...(description === undefined ? {} : { description }),
    request: { body: { required: false, content: { 'application/json': { schema: body } } } },
    responses: { 200: json('Done.', answer) },
  })

const postRoute = <Body extends z.ZodType, Answer extends z.ZodType>(path: string, parts: PostParts<Body, Answer>) => {
  const { request, ...route } = unkeyedRoute(path, parts)
  return createRoute({ ...route, request: { ...request, headers: keyHeader } })
}

const previewRoute = <Body extends z.ZodType>(path: string, body: Body) =>
  unkeyedRoute(`${path}/preview`, {
    summary: `What ${path} would mean`,
    description: 'The amounts are Stripe’s own. Changes nothing.',
    body,
    answer: previewSchema,
  })

const subscriptionRoute = createRoute({
  method: 'get',
  path: '/api/v1/billing/subscription',
  tags,
  summary: 'The subscription and where it stands',
  description: 'From the mirror of Stripe: it answers while Stripe is away.',
  request: { query: z.object(organizationField) },
  responses: { 200: json('The subscription.', subscriptionSchema) },
})

/** Routes of checkout, portal and plan changes: MR-1, MR-2, EM-9 to EM-11, OC-1, CB-6. */
export function registerSubscriptionRoutes(app: App, context: BillingContext): void {
  registerHostedPages(app, context)
  registerSubscribe(app, context)
  registerSwitches(app, context)
  registerCancel(app, context)
  registerPlainChanges(app, context)
  app.openapi(subscriptionRoute, async (http) => {
    const { organizationId } = callerOf(http, 'read', http.req.valid('query').organization_id)
    return http.json(await readSubscription(context, context.db, organizationId), 200)
  })
}

function registerHostedPages(app: App, context: BillingContext): void {
  const checkout = postRoute('checkout', {
    summary: 'Open a hosted checkout for a plan',
    description: 'Answers the address of Stripe’s page. The plan stands once it is paid there.',
    body: checkoutSchema,
    answer: hostedPageSchema,
  })
  app.openapi(checkout, async (http) => {
    const body = http.req.valid('json')
    const caller = callerOf(http, 'admin', body.organization_id)
    const open = () =>
      openCheckout(context, {
        organizationId: caller.organizationId,
        planKey: planNamedBy(catalogOf(context), { plan: body.plan, tier: body.tier }),
        interval: body.interval ?? null,
        priceId: body.price_id ?? null,
        quantity: body.quantity ?? 1,
        trialDays: body.trial_period_days ?? 0,
        byOperator: caller.principal.kind === 'operator',
        successUrl: body.success_url,
        cancelUrl: body.cancel_url,
      })
    return http.json(await answerOnce(context, caller, { operation: 'checkout', body }, open), 200)
  })
  const portal = unkeyedRoute('portal', {
    summary: 'Open the hosted billing portal',
    description:
      'The scope `admin`. Answers the address of a page of Stripe’s that is for this customer alone, and soon expires: open it at once, and ask for another each time.',
    body: portalSchema,
    answer: hostedPageSchema,
  })
  app.openapi(portal, async (http) => {
    const body = http.req.valid('json')
    const { organizationId } = callerOf(http, 'admin', body.organization_id)
    return http.json(await openPortal(context, { organizationId, returnUrl: body.return_url }), 200)
  })
}

function registerSubscribe(app: App, context: BillingContext): void {
  const toRequest = async (body: z.infer<typeof subscribeSchema>, principal: Principal): Promise<PlanChangeRequest> => ({
    kind: 'subscribe',
    planKey: requirePlan(catalogOf(context), { tier: body.tier, plan: body.plan }),
    interval: body.interval ?? null,
    quantity: body.quantity ?? 1,
    paymentMethodId: body.payment_method_id ?? null,
    trialDays: body.trial_period_days ?? null,
    byOperator: principal.kind === 'operator',
    discount: body.discount_code === undefined ? null : await readDiscount(context.db, body.discount_code, catalogOf(context)),
  })
  const subscribe = postRoute('subscribe', {
    summary: 'Subscribe to a plan',
    description: 'With a payment method, or for a trial without one (EM-9).',
    body: subscribeSchema,
    answer: changedSchema,
  })
  app.openapi(subscribe, async (http) => {
    const body = http.req.valid('json')
    const caller = callerOf(http, 'admin', body.organization_id)
    const answer = await changeOnce(context, caller, sentOf('subscribe', body), async () => ({
      request: await toRequest(body, caller.principal),
    }))
    return http.json(answer, 200)
  })
  app.openapi(previewRoute('subscribe', subscribeSchema), async (http) => {
    const body = http.req.valid('json')
    const { organizationId, principal } = callerOf(http, 'admin', body.organization_id)
    const preview = await previewChange(context, { organizationId, request: await toRequest(body, principal), prorationAt: null })
    return http.json(toPreviewView(catalogOf(context), preview), 200)
  })
}

/** `upgrade` goes up and down (EM-10); `downgrade` is another name for it. */
function registerSwitches(app: App, context: BillingContext): void {
  const toOptions = (body: z.infer<typeof switchSchema>) => ({
    request: {
      kind: 'switch',
      planKey: requirePlan(catalogOf(context), { new_tier: body.new_tier, tier: body.tier, plan: body.plan }),
      interval: body.interval ?? null,
      quantity: body.quantity ?? null,
      at: body.at ?? null,
    } satisfies PlanChangeRequest,
    prorationAt: body.proration_date === undefined ? null : new Date(body.proration_date),
  })
  for (const path of ['upgrade', 'downgrade']) {
    const change = postRoute(path, {
      summary: 'Change the plan, the interval or the seats',
      description:
        'Up is paid now, the difference only. Down happens now or at the period’s end. A change that still waits for the bank is called off by a later one, also where the card of the later one declines (402 `payment_failed`).',
      body: switchSchema,
      answer: changedSchema,
    })
    app.openapi(change, async (http) => {
      const body = http.req.valid('json')
      const caller = callerOf(http, 'admin', body.organization_id)
      return http.json(await changeOnce(context, caller, sentOf(path, body), () => toOptions(body)), 200)
    })
    app.openapi(previewRoute(path, switchSchema), async (http) => {
      const body = http.req.valid('json')
      const { organizationId } = callerOf(http, 'admin', body.organization_id)
      return http.json(
        toPreviewView(catalogOf(context), await previewChange(context, { organizationId, ...toOptions(body) })),
        200,
      )
    })
  }
}

function registerCancel(app: App, context: BillingContext): void {
  const cancel = postRoute('cancel', {
    summary: 'Cancel the subscription',
    description: 'At the end of the period, or now (EM-11).',
    body: cancelSchema,
    answer: cancelledSchema,
  })
  app.openapi(cancel, async (http) => {
    const { immediate, named } = readCancel(http.req.valid('json'))
    const caller = callerOf(http, 'admin', named)
    const { organizationId } = caller
    const answer = await answerOnce(context, caller, { operation: 'cancel', body: { immediate } }, async (asker) => {
      await changePlan(context, { organizationId, request: { kind: 'cancel', immediate }, prorationAt: null }, asker)
      const { tier, cancel_at, ended_at, subscription_id } = await readSubscription(context, context.db, organizationId)
      return { status: 'cancelled' as const, cancel_at: cancel_at ?? ended_at, subscription_id, tier }
    })
    return http.json(answer, 200)
  })
  app.openapi(previewRoute('cancel', cancelSchema), async (http) => {
    const { immediate, named } = readCancel(http.req.valid('json'))
    const { organizationId } = callerOf(http, 'admin', named)
    const preview = await previewChange(context, { organizationId, request: { kind: 'cancel', immediate }, prorationAt: null })
    return http.json(toPreviewView(catalogOf(context), preview), 200)
  })
}

/** Without a body at all no schema runs, and so no default either. */
function readCancel(body: Partial<z.infer<typeof cancelSchema>>): { immediate: boolean; named: string | undefined } {
  return { immediate: body.immediate ?? false, named: body.organization_id }
}

const PLAIN_CHANGES = [
  {
    path: 'cancel/undo',
    kind: 'undo_cancel',
    summary: 'Take a scheduled cancellation back',
    description: 'The subscription goes on as it was. One that has ended already is subscribed anew instead.',
  },
  {
    path: 'upgrade/undo',
    kind: 'undo_switch',
    summary: 'Take a scheduled change of plan back',
    description: 'The plan stays as it is at the end of the period too. What has been carried out is changed again instead.',
  },
  {
    path: 'downgrade/undo',
    kind: 'undo_switch',
    summary: 'The same as upgrade/undo',
    description: 'The plan stays as it is at the end of the period too, whichever way it was to change.',
  },
  {
    path: 'pause',
    kind: 'pause',
    summary: 'Pause the subscription',
    description: 'It makes no invoices and allows no use until it is resumed. What was paid stays paid.',
  },
  {
    path: 'resume',
    kind: 'resume',
    summary: 'Resume a paused subscription',
    description:
      'Before the period’s end it goes on with that period and its allowance, at no cost; later it begins a new one, paid whole. Where the card declines that: 402 `payment_failed` with `payment_url`.',
  },
] as const

function registerPlainChanges(app: App, context: BillingContext): void {
  for (const { path, kind, summary, description } of PLAIN_CHANGES) {
    const parts = { summary, description: `The scope \`admin\`. ${description}`, body: plainSchema, answer: changedSchema }
    app.openapi(postRoute(path, parts), async (http) => {
      const caller = callerOf(http, 'admin', http.req.valid('json').organization_id)
      return http.json(await changeOnce(context, caller, { operation: path, body: {} }, () => ({ request: { kind } })), 200)
    })
    app.openapi(previewRoute(path, plainSchema), async (http) => {
      const { organizationId } = callerOf(http, 'admin', http.req.valid('json').organization_id)
      const preview = await previewChange(context, { organizationId, request: { kind }, prorationAt: null })
      return http.json(toPreviewView(catalogOf(context), preview), 200)
    })
  }
}

type Wanted = { readonly request: PlanChangeRequest; readonly prorationAt?: Date | null }

/** Changes the plan as a request wants it, and answers what came of it; once under a key of the caller's. */
function changeOnce(
  context: BillingContext,
  caller: BillingCaller,
  sent: SentRequest,
  toWanted: () => Wanted | Promise<Wanted>,
): Promise<ChangedView> {
  const { organizationId } = caller
  return answerOnce(context, caller, sent, async (asker) => {
    const { request, prorationAt = null } = await toWanted()
    await changePlan(context, { organizationId, request, prorationAt }, asker)
    return readChanged(context, context.db, organizationId)
  })
}

export type BillingCaller = KeyedCaller & { readonly principal: Principal }

/** Who calls, and on which organization they act. */
export function callerOf(http: Context<AppEnv>, scope: Scope, named: string | undefined): BillingCaller {
  const principal = requireScope(http.get('principal'), scope)
  const organizationId = organizationFor(principal, named)
  const asker = { actor: actorOf(principal), requestId: http.get('requestId') }
  return { organizationId, principal, asker, key: http.req.header('idempotency-key') ?? null }
}

/** A change of the subscription as it is compared under a key: the moment of its proration in one zone. */
export function sentOf<Body extends { readonly proration_date?: string | undefined }>(
  operation: string,
  body: Body,
): SentRequest {
  const { proration_date: date } = body
  return { operation, body: { ...body, proration_date: date === undefined ? undefined : new Date(date).toISOString() } }
}

function catalogOf({ catalogs }: BillingContext): Catalog {
  return catalogs.current.catalog
}

/** The first of the fields is the one that is asked for when all are missing. */
function requirePlan(catalog: Catalog, fields: Readonly<Record<string, string | undefined>>): string {
  const planKey = planNamedBy(catalog, fields)
  if (planKey !== null) return planKey
  const [field] = Object.keys(fields)
  throw new DomainError('invalid_request', `${field} is missing: name the plan.`, { field })
}
