import { randomBytes } from 'node:crypto'
import { insertAuditEntry } from '../audit/store.ts'
import type { Db, Transaction } from '../db/database.ts'
import { eventIdOf, publishEvent } from '../events/actions.ts'
import { markHandedOut } from '../events/store.ts'
import { ALL_ORGANIZATIONS, EVENT_TYPES, isEventType } from '../events/types.ts'
import type { Clock, Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { newId, type OrganizationId } from '../lib/ids.ts'
import { HOUR_MS } from '../lib/period.ts'
import type { Seal } from '../lib/seal.ts'
import { readOrganization } from '../organizations/actions.ts'
import { insertDeliveries, replayDeliveries } from './delivery-store.ts'
import {
  deleteEndpoint,
  findEndpoint,
  findListeners,
  insertEndpoint,
  listSecrets,
  lockEndpoint,
  replaceSecret,
  updateEndpoint,
  type EndpointName,
  type EndpointRow,
} from './endpoint-store.ts'
import { isWanted, parseEndpointUrl, PATIENCE_MS, type DestinationPolicy } from './rules.ts'

export type WebhooksContext = {
  readonly db: Db
  readonly clock: Clock
  readonly seal: Seal
  readonly destinations: DestinationPolicy
  /** Wakes the worker after a commit; the worker also looks by itself. */
  readonly onDue: () => void
}

/** Who asks, for the audit log. */
export type Asker = { readonly actor: string; readonly requestId: string }

const MOST_ENDPOINTS = 20

export type EndpointInput = { readonly url: string; readonly description: string; readonly eventTypes: readonly string[] }

/**
 * Makes an endpoint. The answer's `secret` is shown here and never again.
 * @param organizationId `*` for an operator's
 * @throws DomainError `invalid_request`; `not_found`; `conflict` when there are twenty already
 */
export async function createEndpoint(
  context: WebhooksContext,
  organizationId: string,
  input: EndpointInput,
  asker: Asker,
): Promise<{ readonly endpoint: EndpointRow; readonly secret: string }> {
  const checked = checkInput(context, input)
  if (organizationId !== ALL_ORGANIZATIONS) await readOrganization(context.db, organizationId as OrganizationId)
  const now = context.clock.now()
  const secret = newSecret()
  const name = { organizationId, id: newId('we') }
  const endpoint = await context.db.transaction(async (tx) => {
    const row = { ...name, ...checked, secret: context.seal.close(secret), createdAt: now }
    if (!(await insertEndpoint(tx, row, MOST_ENDPOINTS))) {
      throw new DomainError('conflict', `There are ${MOST_ENDPOINTS} endpoints already: delete one first.`)
    }
    await audit(tx, { name, action: 'webhook_endpoint.created', before: null, after: checked }, asker, now)
    return readEndpoint(tx, name)
  })
  return { endpoint, secret }
}

/** @throws DomainError `not_found` */
export async function readEndpoint(db: Db | Transaction, name: EndpointName): Promise<EndpointRow> {
  return requireFound(await findEndpoint(db, name))
}

/** For who changes it, or its deliveries: what was read stays so until the transaction ends. */
async function readLocked(tx: Transaction, name: EndpointName): Promise<EndpointRow> {
  return requireFound(await lockEndpoint(tx, name))
}

function requireFound(endpoint: EndpointRow | null): EndpointRow {
  if (endpoint === null) throw new DomainError('not_found', 'There is no such endpoint.')
  return endpoint
}

/**
 * Changes what is given. Enabling it forgets its failures; what it missed meanwhile is sent when it is asked for (`replay`).
 * @throws DomainError `not_found`, `invalid_request`
 */
export async function changeEndpoint(
  context: WebhooksContext,
  name: EndpointName,
  change: { readonly [Field in keyof EndpointInput]?: EndpointInput[Field] | undefined } & {
    readonly enabled?: boolean | undefined
  },
  asker: Asker,
): Promise<EndpointRow> {
  const now = context.clock.now()
  return context.db.transaction(async (tx) => {
    const before = await readLocked(tx, name)
    const checked = checkInput(context, {
      url: change.url ?? before.url,
      description: change.description ?? before.description,
      eventTypes: change.eventTypes ?? before.eventTypes,
    })
    await updateEndpoint(tx, name, { ...checked, enabled: change.enabled ?? null }, now)
    const after = await readEndpoint(tx, name)
    await audit(
      tx,
      { name, action: 'webhook_endpoint.changed', before: settingsOf(before), after: settingsOf(after) },
      asker,
      now,
    )
    return after
  })
}

/** Deletes an endpoint with the log of its deliveries. @throws DomainError `not_found` */
export async function removeEndpoint(context: WebhooksContext, name: EndpointName, asker: Asker): Promise<void> {
  await context.db.transaction(async (tx) => {
    const before = await readLocked(tx, name)
    await deleteEndpoint(tx, name)
    const entry = { name, action: 'webhook_endpoint.deleted', before: settingsOf(before), after: null }
    await audit(tx, entry, asker, context.clock.now())
  })
}

/**
 * Gives an endpoint a new secret. Until the overlap is over both sign, so that a receiver changes over without a gap. Rotated again
 * meanwhile, each secret before it keeps its end, or has the new overlap's where that is earlier. One that was sealed under another
 * TOLLGATE_SECRET cannot sign any more, so it has no overlap.
 * @throws DomainError `not_found`
 */
export async function rotateSecret(
  context: WebhooksContext,
  name: EndpointName,
  { overlapHours }: { overlapHours: number },
  asker: Asker,
): Promise<{ readonly endpoint: EndpointRow; readonly secret: string }> {
  const now = context.clock.now()
  const secret = newSecret()
  const previousUntil = new Date(now.getTime() + overlapHours * HOUR_MS)
  const endpoint = await context.db.transaction(async (tx) => {
    await readLocked(tx, name)
    const except = (await listSecrets(tx, name)).filter((sealed) => !isReadable(context.seal, sealed))
    await replaceSecret(tx, name, { secret: context.seal.close(secret), except, previousUntil, now })
    const rotated = await readEndpoint(tx, name)
    const after = { previous_until: rotated.previousSecretUntil }
    await audit(tx, { name, action: 'webhook_endpoint.secret_rotated', before: null, after }, asker, now)
    return rotated
  })
  return { endpoint, secret }
}

function isReadable(seal: Seal, sealed: Buffer): boolean {
  try {
    seal.open(sealed)
    return true
  } catch {
    return false
  }
}

/**
 * Sends an endpoint an event of its own; answers the event's id.
 * @throws DomainError `not_found`; `conflict` when it is disabled
 */
export async function sendTest(context: WebhooksContext, name: EndpointName): Promise<string> {
  const now = context.clock.now()
  const { organizationId, id: endpointId } = name
  const key = newId(`endpoint.test:${endpointId}`)
  const eventId = eventIdOf({ organizationId, key })
  await context.db.transaction(async (tx) => {
    requireEnabled(await readLocked(tx, name))
    const data = { endpoint_id: endpointId }
    await publishEvent(tx, { organizationId, type: 'endpoint.test', key, data, occurredAt: now })
    // To this endpoint and to nobody else: it does not pass through the outbox.
    await markHandedOut(tx, [eventId], now)
    await insertDeliveries(tx, [{ organizationId, endpointId, eventId }], patienceFrom(now))
  })
  context.onDue()
  return eventId
}

/**
 * Sends an endpoint again one event, or all that it asks for since a time, whether it took them or not. Answers how many.
 * @throws DomainError `not_found`; `conflict` when it is disabled
 */
export async function replay(
  context: WebhooksContext,
  name: EndpointName,
  which: { readonly eventId: string } | { readonly since: Instant },
): Promise<number> {
  const count = await context.db.transaction(async (tx) => {
    const endpoint = requireEnabled(await readLocked(tx, name))
    const wanted = EVENT_TYPES.filter((type) => type !== 'endpoint.test' && isWanted(endpoint.eventTypes, type))
    const eventTypes = 'eventId' in which ? EVENT_TYPES : wanted
    const query = { endpointId: endpoint.id, organizationId: endpoint.organizationId, eventTypes, which }
    return replayDeliveries(tx, query, patienceFrom(context.clock.now()))
  })
  if (count === 0 && 'eventId' in which) throw new DomainError('not_found', 'There is no such event.')
  context.onDue()
  return count
}

/** What of a list of events goes to which endpoint, stored in the transaction that hands them out. */
export async function enqueueDeliveries(
  tx: Transaction,
  events: readonly { readonly organizationId: string; readonly id: string; readonly type: string }[],
  now: Instant,
): Promise<void> {
  const listeners = await findListeners(tx, [...new Set(events.map(({ organizationId }) => organizationId))])
  const deliveries = events.flatMap((event) =>
    listeners
      .filter(({ organizationId }) => organizationId === ALL_ORGANIZATIONS || organizationId === event.organizationId)
      .filter(({ eventTypes }) => isWanted(eventTypes, event.type))
      .map(({ id: endpointId }) => ({ organizationId: event.organizationId, endpointId, eventId: event.id })),
  )
  await insertDeliveries(tx, deliveries, patienceFrom(now))
}

function patienceFrom(now: Instant): { now: Instant; giveUpAt: Instant } {
  return { now, giveUpAt: new Date(now.getTime() + PATIENCE_MS) }
}

function requireEnabled(endpoint: EndpointRow): EndpointRow {
  if (endpoint.disabledAt === null) return endpoint
  throw new DomainError('conflict', 'This endpoint is disabled: enable it first.')
}

function checkInput({ destinations }: WebhooksContext, { url, description, eventTypes }: EndpointInput): EndpointInput {
  const unknown = eventTypes.find((wanted) => wanted !== '*' && !isEventType(wanted) && !isGroup(wanted))
  if (unknown !== undefined) {
    throw new DomainError('invalid_request', `event_types: there is no type "${unknown}".`, { field: 'event_types' })
  }
  return { url: parseEndpointUrl(url, destinations).href, description, eventTypes: [...new Set(eventTypes)] }
}

function isGroup(wanted: string): boolean {
  return wanted.endsWith('.*') && EVENT_TYPES.some((type) => isWanted([wanted], type))
}

/** As Standard Webhooks have it: 24 to 64 bytes, in base64 behind a prefix. */
function newSecret(): string {
  return `whsec_${randomBytes(32).toString('base64')}`
}

function settingsOf({ url, description, eventTypes, disabledAt }: EndpointRow) {
  return { url, description, event_types: eventTypes, enabled: disabledAt === null }
}

async function audit(
  tx: Transaction,
  { name, ...entry }: { name: EndpointName; action: string; before: unknown; after: unknown },
  asker: Asker,
  at: Instant,
): Promise<void> {
  const organizationId = name.organizationId === ALL_ORGANIZATIONS ? null : name.organizationId
  await insertAuditEntry(tx, { ...entry, organizationId, ...asker, target: name.id, at })
}
