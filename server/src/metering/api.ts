import type { Queryable } from '../db/database.ts'
import { asOrganization } from '../db/scope.ts'
import type { GrantsContext } from '../grants/actions.ts'
import { refuseCardData } from '../lib/card-data.ts'
import { DomainError, orDomainError } from '../lib/errors.ts'
import { newIdempotencyKey } from '../lib/ids.ts'
import type { Outcome } from './decide/decision.ts'
import type { Metering } from './metering.ts'
import { listBalances, readSummary, type UsageSummary } from './summary.ts'
import type { UsageProperties, UsageRequest, UsageVerb } from './usage.ts'
import { answerBody, type AnswerBody, type OwnBalanceBody, type UnitOf } from './wire/bodies.ts'
import {
  batchItemSchema,
  MAX_BATCH_ITEMS,
  organizationId as organizationIdSchema,
  requestOfItem,
  type BatchItem,
} from './wire/requests.ts'

/** One use, as the host application tells it. The client of `@tollgate/sdk` takes the same. */
export type UsageInput = {
  readonly organizationId: string
  readonly meter: string
  /** Default 1; at most six decimal places. */
  readonly quantity?: number | string
  /** Makes a repeat safe; one is made up when it is left out, and then a repeat counts again. */
  readonly idempotencyKey?: string
  /** When it happened; default now. */
  readonly occurredAt?: Date | string
  readonly properties?: UsageProperties
}

export type ReserveInput = Omit<UsageInput, 'occurredAt'> & {
  /** How long the hold lasts when nobody settles it; default 600. */
  readonly expiresInSeconds?: number
}

export type SettleInput = { readonly organizationId: string; readonly reservationId: string; readonly quantity?: number | string }

export type CorrectInput = {
  readonly organizationId: string
  /** The key of the use to be corrected; of a settlement, the reservation's id. */
  readonly corrects: string
  /** What is added to what the use counts; below zero it is taken away. */
  readonly quantity?: number | string
  /** Instead of a quantity: takes the use back whole. */
  readonly retract?: true
  readonly idempotencyKey: string
  readonly reason?: string
}

/** What became of an item of a batch: its answer, or what was wrong with it. */
export type BatchResult = AnswerBody | { readonly allowed: false; readonly error: DomainError }

/** Metering in process: the verbs of the HTTP routes, with their answers, without HTTP. */
export type UsageApi = {
  check(input: UsageInput): Promise<AnswerBody>
  /** @throws DomainError as the routes do */
  track(input: UsageInput): Promise<AnswerBody>
  consume(input: UsageInput): Promise<AnswerBody>
  reserve(input: ReserveInput): Promise<AnswerBody>
  settle(input: SettleInput): Promise<AnswerBody>
  release(input: Omit<SettleInput, 'quantity'>): Promise<AnswerBody>
  /** Adds to what a recorded use counts, or takes from it, at most down to nothing; or takes it back whole. */
  correct(input: CorrectInput): Promise<AnswerBody>
  /** Up to 1,000 items; one result each, in order. */
  batch(items: readonly (UsageInput & { readonly verb: 'check' | 'track' | 'consume' })[]): Promise<readonly BatchResult[]>
  balances(input: { readonly organizationId: string }): Promise<readonly OwnBalanceBody[]>
  usage(input: { readonly organizationId: string; readonly balance?: string }): Promise<UsageSummary>
}

export type UsageContext = GrantsContext & {
  readonly metering: Metering
  readonly db: Queryable
  /** Who may tell, settle and take back use over HTTP; default `tenants`, with the scope `write`. */
  readonly writers?: 'tenants' | 'operators'
}

export function createUsageApi(context: UsageContext): UsageApi {
  const { metering } = context
  const unitOf = unitsOf(context)
  const ask = async (request: UsageRequest): Promise<AnswerBody> => answerBody(await metering.ask(request), unitOf)
  return {
    check: async (input) => ask(requestOf('check', input)),
    track: async (input) => ask(requestOf('track', input)),
    consume: async (input) => ask(requestOf('consume', input)),
    reserve: async (input) => ask(requestOf('reserve', input)),
    settle: async ({ organizationId, reservationId, quantity }) =>
      ask(parse({ verb: 'settle', organization_id: organizationId, reservation_id: reservationId, quantity })),
    release: async ({ organizationId, reservationId }) =>
      ask(parse({ verb: 'release', organization_id: organizationId, reservation_id: reservationId })),
    correct: async ({ organizationId, corrects, quantity, retract, idempotencyKey, reason }) =>
      ask(
        parse({
          verb: 'correct',
          organization_id: organizationId,
          corrects,
          quantity,
          retract,
          idempotency_key: idempotencyKey,
          reason,
        }),
      ),
    async batch(items) {
      if (items.length > MAX_BATCH_ITEMS) throw tooManyItems()
      const parsed = items.map((item) => orDomainError(() => requestOf(item.verb, item)))
      const outcomes = await submitParsed(metering, parsed)
      return outcomes.map((outcome): BatchResult => {
        if (outcome.kind === 'answer') return answerBody(outcome.answer, unitOf)
        if (outcome.error instanceof DomainError) return { allowed: false, error: outcome.error }
        throw outcome.error
      })
    },
    async balances(input) {
      const organizationId = organizationOf(input.organizationId)
      return asOrganization(organizationId, () => listBalances(context.db, context, { organizationId, unitOf }))
    },
    async usage({ balance, ...input }) {
      const organizationId = organizationOf(input.organizationId)
      return asOrganization(organizationId, async () => {
        return (await readSummary(context.db, context, { organizationId, balanceKey: balance })).summary
      })
    },
  }
}

/** What a balance is counted in: as the current catalog says. */
export function unitsOf({ catalogs }: Pick<GrantsContext, 'catalogs'>): UnitOf {
  return (balanceKey) => catalogs.current.catalog.balances.get(balanceKey)?.unit ?? balanceKey
}

export function tooManyItems(): DomainError {
  return new DomainError('invalid_request', `A batch holds at most ${MAX_BATCH_ITEMS} items.`, { field: 'items' })
}

/** Decides what of a batch could be read: one outcome each, in order; what is wrong with one is its own outcome. */
export async function submitParsed(
  metering: Metering,
  parsed: readonly (UsageRequest | DomainError)[],
): Promise<readonly Outcome[]> {
  const outcomes = await metering.submit(parsed.filter((item): item is UsageRequest => !(item instanceof DomainError)))
  let next = 0
  return parsed.map((item) => (item instanceof DomainError ? { kind: 'error', error: item } : outcomes[next++]!))
}

function requestOf(
  verb: Exclude<UsageVerb, 'settle' | 'release' | 'correct'>,
  input: UsageInput & { expiresInSeconds?: number },
): UsageRequest {
  const { occurredAt } = input
  return parse({
    verb,
    organization_id: input.organizationId,
    meter: input.meter,
    quantity: input.quantity,
    idempotency_key: input.idempotencyKey ?? newIdempotencyKey(),
    occurred_at: occurredAt instanceof Date ? textOf(occurredAt) : occurredAt,
    properties: input.properties,
    expires_in_seconds: input.expiresInSeconds,
  })
}

/** A time that is none is left to the contract, which refuses its text. */
function textOf(time: Date): string {
  return Number.isNaN(time.getTime()) ? String(time) : time.toISOString()
}

/** The organization that a host names. */
function organizationOf(named: string | undefined): string {
  const parsed = organizationIdSchema.safeParse(named)
  if (parsed.success) return parsed.data
  throw refusal('organization_id', parsed.error.issues)
}

function refusal(field: string, [issue]: readonly { readonly message: string }[]): DomainError {
  return new DomainError('invalid_request', `${field}: ${issue!.message}`, { field })
}

/** One contract for both ways in: what the host says is checked as a request body is. */
function parse(item: Record<string, unknown>): UsageRequest {
  const given = Object.fromEntries(Object.entries(item).filter(([, value]) => value !== undefined))
  refuseCardData(given)
  const parsed = batchItemSchema.safeParse(given)
  if (parsed.success) return requestOfItem(parsed.data satisfies BatchItem, organizationOf)
  const { issues } = parsed.error
  throw refusal(issues[0]!.path.join('.'), issues)
}
