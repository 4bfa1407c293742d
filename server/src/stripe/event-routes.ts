import { createRoute, z } from '@hono/zod-openapi'
import { requireOperator } from '../auth/principal.ts'
import type { Queryable } from '../db/database.ts'
import type { App } from '../http/app.ts'
import type { Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import type { BillingContext } from './context.ts'
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
  tags: ['Stripe'],
  request: { query: z.object({ status: status.optional(), limit: z.coerce.number().int().min(1).max(200).default(50) }) },
  responses: answerOf(z.object({ events: z.array(eventSchema) }), 'The events.'),
})

const read = createRoute({
  method: 'get',
  path: '/api/v1/stripe-events/{event_id}',
  summary: 'Read an event with its payload as it was received (operator)',
  tags: ['Stripe'],
  request: { params },
  responses: answerOf(eventSchema.extend({ payload: z.unknown() }).openapi('StripeEventWithPayload'), 'The event.'),
})

const replay = createRoute({
  method: 'post',
  path: '/api/v1/stripe-events/{event_id}/replay',
  summary: 'Handle an event again (operator)',
  tags: ['Stripe'],
  request: { params },
  responses: answerOf(eventSchema, 'The event, due again.'),
})

/** The operator's view of the inbox. */
export function registerEventRoutes(app: App, context: BillingContext): void {
  app.openapi(list, async (c) => {
    requireOperator(c.get('principal'))
    const { rows } = await selectEvents(context.db, c.req.valid('query'))
    return c.json({ events: rows.map(toBody) }, 200)
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

function selectEvents(db: Queryable, query: { status?: EventStatus | undefined; limit: number }) {
  const condition = query.status === undefined ? 'true' : CONDITIONS[query.status]
  return db.query<EventRow>(`${SELECT} where ${condition} order by received_at desc, event_id limit $1`, [query.limit])
}

async function readEvent(db: Queryable, eventId: string): Promise<EventRow> {
  const { rows } = await db.query<EventRow>(`${SELECT} where event_id = $1`, [eventId])
  if (!rows[0]) throw new DomainError('not_found', 'There is no such event.')
  return rows[0]
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
