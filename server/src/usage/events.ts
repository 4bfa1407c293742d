import { z } from '@hono/zod-openapi'
import type { Statement } from '../db/row-stream.ts'
import { DAY_MS } from '../lib/period.ts'
import { quantityToJson } from '../lib/quantity.ts'
import { isUse } from '../metering/decide/rollups.ts'
import type { UsageEvent } from '../metering/usage.ts'
import { cursorTime, readCursor, writeCursor } from './cursors.ts'
import { eventsStatement, listEvents, type EventPage, type EventQuery } from './events-store.ts'
import { readSpan, type ReadingContext, type ReadSpan, type SpanInput } from './reports.ts'
import { quantityOut } from './schemas.ts'

export const eventSchema = z
  .object({
    id: z.string(),
    recorded_at: z.iso.datetime(),
    occurred_at: z.iso.datetime(),
    verb: z.enum(['track', 'consume', 'reserve', 'settle', 'correct', 'retract']),
    idempotency_key: z.string().meta({ description: 'Of a settlement, the reservation’s id.' }),
    meter: z.string(),
    quantity: quantityOut.meta({ description: 'As it was asked.' }),
    counted: quantityOut.meta({ description: 'What it adds to the meter; nothing for a refusal or a hold.' }),
    credits_used: quantityOut.meta({ description: 'What it took from the balance, overage included.' }),
    overage: quantityOut,
    refusal: z.string().nullable().meta({ description: 'Why it was refused; null when it was not.' }),
    balance: z.string(),
    plan: z.string(),
    period_start: z.iso.datetime(),
    period_end: z.iso.datetime().nullable(),
    corrects: z.string().nullable().meta({ description: 'Of a correction: the key of what it corrects.' }),
    reservation_id: z.string().nullable(),
    draws: z
      .array(z.object({ grant: z.string(), amount: quantityOut, overage: quantityOut }))
      .meta({ description: 'What it took from each grant; of a hold, what it held.' }),
    properties: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).nullable(),
  })
  .openapi('UsageEvent')

export type EventBody = z.infer<typeof eventSchema>

export function eventBody(event: UsageEvent): EventBody {
  const { after } = event
  return {
    id: event.id,
    recorded_at: event.recordedAt.toISOString(),
    occurred_at: event.occurredAt.toISOString(),
    verb: event.verb,
    idempotency_key: event.idempotencyKey,
    meter: event.meter,
    quantity: quantityToJson(event.quantity),
    counted: quantityToJson(event.counted),
    credits_used: quantityToJson(isUse(event) ? event.drawn : 0n),
    // A hold is no overage: what is used of it is the settlement's.
    overage: quantityToJson(isUse(event) ? event.overage : 0n),
    refusal: event.refusal,
    balance: after.balanceKey,
    plan: after.planKey,
    period_start: after.periodStart.toISOString(),
    period_end: after.periodEnd?.toISOString() ?? null,
    corrects: event.corrects,
    reservation_id: event.reservationId,
    draws: event.draws.map(({ grantId, amount, overage }) => ({
      grant: grantId,
      amount: quantityToJson(amount),
      overage: quantityToJson(overage),
    })),
    properties: event.properties,
  }
}

export type EventsInput = SpanInput & { readonly limit: number; readonly cursor?: string | undefined }

const eventPlace = z.tuple([cursorTime, z.uuid()])

/** Where a page of events begins. @throws DomainError `invalid_request` for a cursor of another list */
export function pageOf({ limit, cursor }: Pick<EventsInput, 'limit' | 'cursor'>): EventPage {
  const place = readCursor(cursor, eventPlace)
  return { after: place && { recordedAt: place[0], id: place[1] }, limit: limit + 1 }
}

/** A page of what was read with one event more than asked for, and the cursor of the next. */
export function pageFrom(found: readonly UsageEvent[], limit: number) {
  const events = found.slice(0, limit)
  const last = events.at(-1)
  return { events, nextCursor: found.length > limit && last ? writeCursor([last.recordedAt, last.id]) : null }
}

/**
 * The events that count in a span, a page at a time.
 * @throws DomainError as `readReport`
 */
export async function readEvents(context: ReadingContext, input: EventsInput) {
  const span = await readSpan(context, input)
  return { ...span, ...(await readPage(context, input, { span, uses: null })) }
}

/** A page of the events of a span that was read, or of those of them that a figure is summed up from. */
export async function readPage(
  context: ReadingContext,
  input: EventsInput,
  { span, uses }: { readonly span: ReadSpan; readonly uses: EventQuery['uses'] },
) {
  return pageFrom(await listEvents(context.db, statementOf(input, span, { ...pageOf(input), uses })), input.limit)
}

/** All of them, as a statement whose rows are `EventRow`s. @throws DomainError as `readReport` */
export async function planEvents(
  context: ReadingContext,
  input: SpanInput,
): Promise<ReadSpan & { readonly statement: Statement }> {
  const span = await readSpan(context, input)
  return { ...span, statement: statementOf(input, span, { after: null, limit: null, uses: null }) }
}

function statementOf(
  { organizationId, meter }: SpanInput,
  { start, end, calendar, onTestClock }: ReadSpan,
  page: EventPage & Pick<EventQuery, 'uses'>,
): Statement {
  return eventsStatement({
    organizationId,
    meter: meter ?? null,
    start,
    end,
    timeZone: calendar.timeZone,
    // A use is recorded after it happened, but for a caller's clock, or ours before Stripe's, by minutes. A test clock has another time.
    recordedFrom: onTestClock ? null : new Date(start.getTime() - DAY_MS),
    ...page,
  })
}
