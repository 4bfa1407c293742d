import { createRoute, z } from '@hono/zod-openapi'
import { actorOf, organizationFor, requireOperator, requireScope } from '../auth/principal.ts'
import type { App } from '../http/app.ts'
import { moment } from '../lib/moments.ts'
import { json } from '../http/route-schemas.ts'
import { newIdempotencyKey } from '../lib/ids.ts'
import { parseQuantity, quantityToJson, type Quantity } from '../lib/quantity.ts'
import { giveGrant, readGrants, revokeGrant, type GrantReading } from './giving.ts'
import { setTimeZone, type TimeZoneContext } from './time-zone.ts'

const quantityOut = z.union([z.number(), z.string()])
const quantityIn = z.union([z.number(), z.string().max(32)])

/** As every answer shows a grant. */
export const grantSchema = z
  .object({
    id: z.string(),
    balance: z.string(),
    kind: z.enum(['plan', 'top_up', 'promotion', 'rollover', 'manual']),
    plan: z.string().nullable(),
    amount: quantityOut.nullable().meta({ description: 'null is unlimited.' }),
    used: quantityOut,
    overage: quantityOut,
    reserved: quantityOut,
    revoked: quantityOut,
    expired: quantityOut.meta({ description: 'What was left when it ended.' }),
    remaining: quantityOut.nullable().meta({ description: 'amount − used − reserved − revoked − expired.' }),
    priority: z.int().meta({ description: 'Lower is drawn first.' }),
    meters: z.array(z.string()).nullable(),
    starts_at: z.iso.datetime(),
    expires_at: z.iso.datetime().nullable(),
    reason: z.string().nullable(),
    created_at: z.iso.datetime(),
  })
  .openapi('Grant')

const timeZoneSchema = z.strictObject({
  time_zone: z.string().max(64).nullable().meta({ description: 'An IANA name such as Europe/Berlin; null is the catalog’s.' }),
})

const listRoute = createRoute({
  method: 'get',
  path: '/api/v1/grants',
  tags: ['Grants'],
  summary: 'What an organization may use up: allowances of its plan and everything else that was granted',
  description: 'The scope `read`. Each with what was granted, used, revoked and is left; of one balance where that is named.',
  request: {
    query: z.object({
      organization_id: z.string().optional().meta({ description: 'Only for operators.' }),
      balance: z.string().optional(),
    }),
  },
  responses: { 200: json('The grants, newest first, ended ones too.', z.object({ grants: z.array(grantSchema) })) },
})

const giveRoute = createRoute({
  method: 'post',
  path: '/api/v1/grants',
  tags: ['Grants'],
  summary: 'Give a grant',
  description: 'For operators. Repeating it with the same idempotency key answers the grant that is there, with 200.',
  request: {
    body: {
      required: true,
      content: {
        'application/json': {
          schema: z.strictObject({
            organization_id: z.string().min(1).max(100),
            balance: z.string().min(1).max(63),
            kind: z.enum(['promotion', 'manual', 'top_up']).default('manual'),
            amount: quantityIn.nullable().meta({ description: 'null is unlimited.' }),
            expires_at: moment.nullish(),
            priority: z.int().min(0).max(99).optional().meta({ description: 'Lower is drawn first; a plan has 50.' }),
            meters: z
              .array(z.string())
              .min(1)
              .nullish()
              .meta({ description: 'Which meters it pays for; default all of the balance.' }),
            reason: z.string().max(500).nullish(),
            idempotency_key: z.string().min(1).max(100).optional(),
          }),
        },
      },
    },
  },
  responses: { 201: json('It was given.', grantSchema), 200: json('It was given before.', grantSchema) },
})

const revokeRoute = createRoute({
  method: 'post',
  path: '/api/v1/grants/{id}/revoke',
  tags: ['Grants'],
  summary: 'Take back what is left of a grant',
  description:
    'For operators. What is used stays used, what is held stays held. A plan’s allowance cannot be revoked. Repeating it with the same idempotency key within 35 days takes nothing back.',
  request: {
    params: z.object({ id: z.string().max(200) }),
    body: {
      required: true,
      content: {
        'application/json': {
          schema: z.strictObject({
            organization_id: z.string().min(1).max(100),
            amount: quantityIn
              .nullish()
              .meta({ description: 'At most this much; without it, all that is left. An unlimited grant has no part: it ends.' }),
            idempotency_key: z.string().min(1).max(100).optional(),
          }),
        },
      },
    },
  },
  responses: { 200: json('What has become of it.', grantSchema) },
})

const timeZoneRoute = createRoute({
  method: 'put',
  path: '/api/v1/organizations/{id}/time-zone',
  tags: ['Organizations'],
  summary: 'Set the time zone of an organization’s calendar periods',
  description:
    'The period that stands keeps what was used of it and ends where it ends in the new zone: none is handed out twice, none left out.',
  request: {
    params: z.object({ id: z.string().meta({ description: 'The organization.' }) }),
    body: { required: true, content: { 'application/json': { schema: timeZoneSchema } } },
  },
  responses: { 200: json('The zone, in its usual spelling.', timeZoneSchema) },
})

export function registerGrantRoutes(app: App, context: TimeZoneContext): void {
  app.openapi(listRoute, async (c) => {
    const { organization_id: named, balance } = c.req.valid('query')
    const organizationId = organizationFor(requireScope(c.get('principal'), 'read'), named)
    const grants = await readGrants(context, organizationId)
    return c.json({ grants: grants.filter((grant) => balance === undefined || grant.balanceKey === balance).map(showGrant) }, 200)
  })

  app.openapi(giveRoute, async (c) => {
    const principal = requireOperator(c.get('principal'))
    const body = c.req.valid('json')
    const { grant, given } = await giveGrant(
      context,
      {
        organizationId: body.organization_id,
        id: `${body.kind}:${body.idempotency_key ?? newIdempotencyKey()}`,
        balanceKey: body.balance,
        kind: body.kind,
        amount: body.amount === null ? null : parseQuantity(body.amount, 'amount'),
        expiresAt: body.expires_at ? new Date(body.expires_at) : null,
        priority: body.priority,
        meters: body.meters ?? null,
        reason: body.reason ?? null,
      },
      { actor: actorOf(principal), requestId: c.get('requestId') },
    )
    return c.json(showGrant(grant), given ? 201 : 200)
  })

  app.openapi(revokeRoute, async (c) => {
    const principal = requireOperator(c.get('principal'))
    const { organization_id: organizationId, amount, idempotency_key: key } = c.req.valid('json')
    const { id } = c.req.valid('param')
    const most = amount === undefined || amount === null ? null : parseQuantity(amount, 'amount')
    const sent = { operation: `grants/${id}/revoke`, body: { amount: most === null ? null : quantityToJson(most) } }
    const request = key === undefined ? null : { ...sent, key }
    const asked = { organizationId, id, most, request }
    const giver = { actor: actorOf(principal), requestId: c.get('requestId') }
    return c.json(showGrant(await revokeGrant(context, asked, giver)), 200)
  })

  app.openapi(timeZoneRoute, async (c) => {
    const principal = requireScope(c.get('principal'), 'admin')
    const asked = {
      organizationId: organizationFor(principal, c.req.valid('param').id),
      timeZone: c.req.valid('json').time_zone,
    }
    const giver = { actor: actorOf(principal), requestId: c.get('requestId') }
    return c.json({ time_zone: await setTimeZone(context, asked, giver) }, 200)
  })
}

export function showGrant(grant: GrantReading): z.infer<typeof grantSchema> {
  const show = (quantity: Quantity | null): number | string | null => (quantity === null ? null : quantityToJson(quantity))
  return {
    id: grant.id,
    balance: grant.balanceKey,
    kind: grant.kind,
    plan: grant.planKey,
    amount: show(grant.amount),
    used: quantityToJson(grant.used),
    overage: quantityToJson(grant.overage),
    reserved: quantityToJson(grant.reserved),
    revoked: quantityToJson(grant.revoked),
    expired: quantityToJson(grant.expired),
    remaining: show(grant.remaining),
    priority: grant.priority,
    meters: grant.meters === null ? null : [...grant.meters],
    starts_at: grant.startsAt.toISOString(),
    expires_at: grant.expiresAt?.toISOString() ?? null,
    reason: grant.reason,
    created_at: grant.createdAt.toISOString(),
  }
}
