import { createRoute, z } from '@hono/zod-openapi'
import type { Context } from 'hono'
import { actorOf, organizationFor, requireScope, type Principal } from '../auth/principal.ts'
import type { Queryable } from '../db/database.ts'
import type { AppEnv } from '../http/app-env.ts'
import type { App } from '../http/app.ts'
import { body, json } from '../http/route-schemas.ts'
import { newIdempotencyKey } from '../lib/ids.ts'
import { parseQuantity, quantityToJson } from '../lib/quantity.ts'
import type { BillingContext } from '../stripe/context.ts'
import { keyHeader } from '../subscriptions/schemas.ts'
import { buyTopUp, listUsableTopUps } from './actions.ts'
import { listAutoTopUps, type AutoTopUp } from './auto-store.ts'
import { removeAutoTopUp, setAutoTopUp } from './auto.ts'
import { unpaidShare } from './rules.ts'
import { topUpGrantId } from './settle.ts'
import { findSavedMethod, listPurchases, type Purchase } from './store.ts'

const TAGS = ['Top-ups']
const quantityOut = z.union([z.number(), z.string()])
const purchaseSchema = z
  .object({
    id: z.string(),
    top_up: z.string(),
    name: z.string(),
    balance: z.string(),
    quantity: z.int(),
    amount: quantityOut.meta({ description: 'What all of it grants.' }),
    price_minor: z.int(),
    paid_minor: z.int().nullable().meta({ description: 'What was charged, with tax; null until it is paid.' }),
    currency: z.string(),
    automatic: z.boolean(),
    status: z.enum(['pending', 'paid', 'failed']),
    failure_code: z.string().nullable(),
    url: z.string().nullable().meta({ description: 'Where it is paid, while it is pending.' }),
    grant_id: z.string().nullable(),
    refunded_minor: z.int(),
    disputed: z.boolean(),
    taken_back: quantityOut.meta({ description: 'Taken back of the grant after a refund or a dispute.' }),
    not_taken_back: quantityOut.meta({ description: 'What should have been taken back too, but had been used.' }),
    created_at: z.iso.datetime(),
    paid_at: z.iso.datetime().nullable(),
  })
  .openapi('TopUpPurchase')

const packageSchema = z.object({
  top_up: z.string(),
  name: z.string(),
  balance: z.string(),
  amount: quantityOut,
  price_minor: z.int(),
  currency: z.string(),
  expires_after_days: z.int().nullable(),
})

const autoSchema = z
  .object({
    balance: z.string(),
    top_up: z.string(),
    quantity: z.int(),
    below: quantityOut,
    most_per_month: z.int(),
    stopped: z.object({ at: z.iso.datetime(), code: z.string() }).nullable().meta({
      description: 'After a payment that failed: nothing is bought until another method is there, or this is set anew.',
    }),
  })
  .openapi('AutoTopUp')

const organizationId = z.string().min(1).max(100).optional().meta({ description: 'Only for operators.' })
const packageKey = z.string().min(1).max(63).meta({ description: 'The name of a package in the catalog.' })
const packages = z.int().min(1).max(1_000).default(1)

const buyRoute = createRoute({
  method: 'post',
  path: '/api/v1/billing/top-ups',
  tags: TAGS,
  summary: 'Buy a package of the catalog',
  description:
    'With a saved payment method it is paid and granted at once (201). Without one, where the bank asks the customer, or where it is not known where they are taxed, the answer has the page where it is paid (202), and the payment’s webhook grants it.',
  request: {
    headers: keyHeader,
    body: body(
      z.strictObject({
        organization_id: organizationId,
        top_up: packageKey,
        quantity: packages,
        pay_with: z.enum(['saved', 'page']).default('saved'),
        idempotency_key: z
          .string()
          .min(1)
          .max(255)
          .optional()
          .meta({ description: 'Makes a repeat safe; the header Idempotency-Key does too.' }),
        success_url: z.string().max(2_000).optional(),
        cancel_url: z.string().max(2_000).optional(),
      }),
    ),
  },
  responses: { 201: json('It is paid and granted.', purchaseSchema), 202: json('It waits for its payment.', purchaseSchema) },
})

const listRoute = createRoute({
  method: 'get',
  path: '/api/v1/billing/top-ups',
  tags: TAGS,
  summary: 'What can be bought, and what was',
  description:
    'The scope `read`. Packages with their prices, the last purchases with their state, and which packages are bought by themselves.',
  request: {
    query: z.object({ organization_id: organizationId, limit: z.coerce.number().int().min(1).max(100).default(20) }),
  },
  responses: {
    200: json(
      'The packages, and the purchases, newest first.',
      z.object({ packages: z.array(packageSchema), purchases: z.array(purchaseSchema), automatic: z.array(autoSchema) }),
    ),
  },
})

const setAutoRoute = createRoute({
  method: 'put',
  path: '/api/v1/billing/auto-top-up',
  tags: TAGS,
  summary: 'Buy a package by itself when its balance falls under a mark',
  description: 'One purchase at a time, at most so many in a calendar month. Setting it again starts it again after a failure.',
  request: {
    body: body(
      z.strictObject({
        organization_id: organizationId,
        top_up: packageKey,
        quantity: packages,
        below: z.union([z.number(), z.string().max(32)]),
        most_per_month: z.int().min(1).max(1_000).default(3),
      }),
    ),
  },
  responses: { 200: json('It is set.', autoSchema) },
})

const removeAutoRoute = createRoute({
  method: 'delete',
  path: '/api/v1/billing/auto-top-up/{balance}',
  tags: TAGS,
  summary: 'Buy nothing by itself any more',
  description: 'The scope `admin`. A purchase that is under way is not called off. Where nothing is set for the balance, 404.',
  request: { params: z.object({ balance: z.string() }), query: z.object({ organization_id: organizationId }) },
  responses: { 204: { description: 'It is removed.' } },
})

export function registerTopUpRoutes(app: App, context: BillingContext): void {
  app.openapi(buyRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'admin')
    const asked = c.req.valid('json')
    const request = {
      organizationId: organizationFor(principal, asked.organization_id),
      topUpKey: asked.top_up,
      quantity: asked.quantity,
      // As of every other change; a field of the body besides, which was there before.
      idempotencyKey: asked.idempotency_key ?? c.req.valid('header')['idempotency-key'] ?? newIdempotencyKey(),
      payWith: asked.pay_with,
      successUrl: asked.success_url,
      cancelUrl: asked.cancel_url,
    }
    const purchase = await buyTopUp(context, request, askerOf(c, principal))
    return c.json(showPurchase(purchase), purchase.status === 'paid' ? 201 : 202)
  })

  app.openapi(listRoute, async (c) => {
    const { organization_id: named, limit } = c.req.valid('query')
    const id = organizationFor(requireScope(c.get('principal'), 'read'), named)
    const { currency } = context.catalogs.current.catalog
    const sold = (await listUsableTopUps(context, context.db, id)).map((topUp) => ({
      top_up: topUp.key,
      name: topUp.name,
      balance: topUp.balanceKey,
      amount: quantityToJson(topUp.amount),
      price_minor: topUp.priceMinor,
      currency,
      expires_after_days: topUp.expiresAfterDays,
    }))
    const purchases = (await listPurchases(context.db, id, limit)).map(showPurchase)
    const automatic = await showAutomatic(context.db, id)
    return c.json({ packages: sold, purchases, automatic }, 200)
  })

  app.openapi(setAutoRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'admin')
    const asked = c.req.valid('json')
    const input = {
      organizationId: organizationFor(principal, asked.organization_id),
      topUpKey: asked.top_up,
      quantity: asked.quantity,
      below: parseQuantity(asked.below, 'below'),
      mostPerMonth: asked.most_per_month,
    }
    return c.json(showAuto(await setAutoTopUp(context, input, askerOf(c, principal))), 200)
  })

  app.openapi(removeAutoRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'admin')
    const id = organizationFor(principal, c.req.valid('query').organization_id)
    await removeAutoTopUp(context, { organizationId: id, balanceKey: c.req.valid('param').balance }, askerOf(c, principal))
    return c.body(null, 204)
  })
}

function askerOf(c: Context<AppEnv>, principal: Principal) {
  return { actor: actorOf(principal), requestId: c.get('requestId') }
}

function showPurchase(purchase: Purchase): z.infer<typeof purchaseSchema> {
  const { refundedMinor, disputed, paidMinor, amount, takenBack, status } = purchase
  const payment = { chargeId: '', amountMinor: paidMinor ?? 0, refundedMinor, disputed }
  const owed = refundedMinor > 0 || disputed ? unpaidShare(amount, payment) : 0n
  return {
    id: purchase.id,
    top_up: purchase.topUpKey,
    name: purchase.name,
    balance: purchase.balanceKey,
    quantity: purchase.quantity,
    amount: quantityToJson(amount),
    price_minor: purchase.priceMinor,
    paid_minor: paidMinor,
    currency: purchase.currency,
    automatic: purchase.automatic,
    status,
    failure_code: purchase.failureCode,
    url: status === 'pending' ? purchase.pageUrl : null,
    grant_id: status === 'paid' ? topUpGrantId(purchase) : null,
    refunded_minor: refundedMinor,
    disputed,
    taken_back: quantityToJson(takenBack),
    not_taken_back: quantityToJson(owed - takenBack),
    created_at: purchase.createdAt.toISOString(),
    paid_at: purchase.paidAt?.toISOString() ?? null,
  }
}

async function showAutomatic(db: Queryable, organizationId: string): Promise<z.infer<typeof autoSchema>[]> {
  const [all, method] = await Promise.all([listAutoTopUps(db, organizationId), findSavedMethod(db, organizationId)])
  // Another payment method starts it again (`decideAutoTopUp`), also before the next purchase.
  return all.map((auto) => showAuto(auto.stoppedMethod === method ? auto : { ...auto, stoppedAt: null }))
}

function showAuto(auto: AutoTopUp): z.infer<typeof autoSchema> {
  return {
    balance: auto.balanceKey,
    top_up: auto.topUpKey,
    quantity: auto.quantity,
    below: quantityToJson(auto.below),
    most_per_month: auto.mostPerMonth,
    stopped: auto.stoppedAt === null ? null : { at: auto.stoppedAt.toISOString(), code: auto.stoppedCode ?? '' },
  }
}
