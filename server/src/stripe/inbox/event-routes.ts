import { createRoute, z } from '@hono/zod-openapi'
import { organizationOrAll, requireOperator } from '../../auth/principal.ts'
import type { Queryable } from '../../db/database.ts'
import type { App } from '../../http/app.ts'
import { findStart, pageOf, pageQuery } from '../../http/page-query.ts'
import type { Instant } from '../../lib/clock.ts'
import { DomainError } from '../../lib/errors.ts'
import type { BillingContext } from '../context.ts'
import { readPayload } from './inbox-store.ts'
import { replayEvent } from './inbox.ts'

const time = z.iso.datetime().nullable()
const status = z.enum(['pending', 'failed', 'handled'])

const eventSchema = z
  .object({
    event_id: z.string(),
    type: z.string(),
    object_id: z.string().nullable(),
    organization_id: z.string().nullable(),
    status: status.openapi({ description: 'failed: given up for now; a replay takes it up again.' }),
    attempts: z.number().int(),
    last_error: z.string().nullable(),
    received_at: z.iso.datetime(),
    next_attempt_at: time,
    handled_at: time,
  })
  .openapi('StripeEvent')

const params = z.object({ event_id: z.string() })
const answerOf = <Schema extends z.ZodType>(schema: Schema, description: string) => ({
  200: { description, content: { 'application/json': { schema } } },
})

const list = createRoute({
  method: 'get',
  path: '/api/v1/stripe-events',
  summary: 'List the events that arrived from Stripe, newest first (operator)',
  description:
    'Of all organizations, or the one that is named; `status=failed` are those that were given up for now. Page on with the last id as `starting_after`.',
  tags: ['Stripe'],
  request: {
    query: z.object({
      organization_id: z.string().optional(),
      status: status.optional(),
      ...pageQuery({ most: 200, usual: 50 }),
    }),
  },
  responses: answerOf(z.object({ events: z.array(eventSchema), has_more: z.boolean() }), 'The events.'),
})

const read = createRoute({
  method: 'get',
  path: '/api/v1/stripe-events/{event_id}',
  summary: 'Read an event with its payload as it was received (operator)',
  description:
    'For finding out why it was given up: `last_error` has the reason. Events are kept for the days that TOLLGATE_STRIPE_EVENT_DAYS names.',
  tags: ['Stripe'],
  request: { params },
  responses: answerOf(eventSchema.extend({ payload: z.unknown() }).openapi('StripeEventWithPayload'), 'The event.'),
})

const replay = createRoute({
  method: 'post',
  path: '/api/v1/stripe-events/{event_id}/replay',
  summary: 'Handle an event again (operator)',
  description:
    'It is due again at once, and is handled in the background; read it again to see what came of it. Safe for one that was handled: what it is about is read from Stripe as it is now.',
  tags: ['Stripe'],
  request: { params },
  responses: answerOf(eventSchema, 'The event, due again.'),
})

/** The operator's view of the inbox. */
export function registerEventRoutes(app: App, context: BillingContext): void {
  app.openapi(list, async (c) => {
    const operator = requireOperator(c.get('principal'))
    const { organization_id: named, status: asked, limit, starting_after: startingAfter } = c.req.valid('query')
    const after = await findStart(startingAfter, (id) => findEvent(context.db, id))
    const { rows } = await selectEvents(context.db, {
      organizationId: organizationOrAll(operator, named),
      status: asked,
      after: after?.eventId ?? null,
      limit: limit + 1,
    })
    const { page, hasMore } = pageOf(rows, limit)
    return c.json({ events: page.map(toBody), has_more: hasMore }, 200)
  })
  app.openapi(read, async (c) => {
    requireOperator(c.get('principal'))
    const { event_id: eventId } = c.req.valid('param')
    const row = await readEvent(context.db, eventId)
    const payload = await readPayload(context.db, eventId)
    return c.json({ ...toBody(row), payload: JSON.parse(String(payload)) as unknown }, 200)
  })
  app.openapi(replay, async (c) => {
    requireOperator(c.get('principal'))
    const { event_id: eventId } = c.req.valid('param')
    await replayEvent(context, eventId)
    return c.json(toBody(await readEvent(context.db, eventId)), 200)
  })
}

type EventStatus = z.infer<typeof status>

type EventRow = {
  readonly eventId: string
  readonly type: string
  readonly objectId: string | null
  readonly organizationId: string | null
  readonly attempts: number
  readonly lastError: string | null
  readonly receivedAt: Instant
  readonly nextAttemptAt: Instant
  readonly handledAt: Instant | null
  readonly parkedAt: Instant | null
}

const SELECT = `select event_id as "eventId", type, object_id as "objectId", organization_id as "organizationId", attempts,
  last_error as "lastError", received_at as "receivedAt", next_attempt_at as "nextAttemptAt", handled_at as "handledAt",
  parked_at as "parkedAt" from stripe_events`

const CONDITIONS: Readonly<Record<EventStatus, string>> = {
  pending: 'handled_at is null and parked_at is null',
  failed: 'handled_at is null and parked_at is not null',
  handled: 'handled_at is not null',
}

type EventQuery = {
  /** null is every organization's, and those of none. */
  readonly organizationId: string | null
  readonly status: EventStatus | undefined
  readonly after: string | null
  readonly limit: number
}

function selectEvents(db: Queryable, query: EventQuery) {
  const condition = query.status === undefined ? 'true' : CONDITIONS[query.status]
  return db.query<EventRow>(
    `${SELECT} where ${condition} and ($3::text is null or organization_id = $3)
       and ($1::text is null or (received_at, event_id) < (select received_at, event_id from stripe_events where event_id = $1))
     order by received_at desc, event_id desc limit $2`,
    [query.after, query.limit, query.organizationId],
  )
}

async function findEvent(db: Queryable, eventId: string): Promise<EventRow | null> {
  const { rows } = await db.query<EventRow>(`${SELECT} where event_id = $1`, [eventId])
  return rows[0] ?? null
}

async function readEvent(db: Queryable, eventId: string): Promise<EventRow> {
  const event = await findEvent(db, eventId)
  if (event === null) throw new DomainError('not_found', 'There is no such event.')
  return event
}

function toBody(row: EventRow): z.infer<typeof eventSchema> {
  const handled = row.handledAt !== null
  return {
    event_id: row.eventId,
    type: row.type,
    object_id: row.objectId,
    organization_id: row.organizationId,
    status: handled ? 'handled' : row.parkedAt === null ? 'pending' : 'failed',
    attempts: row.attempts,
    last_error: row.lastError,
    received_at: row.receivedAt.toISOString(),
    next_attempt_at: handled || row.parkedAt ? null : row.nextAttemptAt.toISOString(),
    handled_at: row.handledAt?.toISOString() ?? null,
  }
}
