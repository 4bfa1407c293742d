import type { CorrectRequest, RecordRequest, ReserveRequest, UsageEvent, UsageProperties } from './usage.ts'

/**
 * The first field in which a request differs from the one that used its key before, by its name on the wire;
 * null when it is a true repeat.
 */
export function differingField(first: UsageEvent, request: RecordRequest | ReserveRequest | CorrectRequest): string | null {
  if (first.verb === 'retract' && request.verb === 'correct') return differingRetraction(first, request)
  if (first.verb !== request.verb) return 'verb'
  if (request.verb === 'correct') return differingCorrection(first, request)
  if (first.meter !== request.meter) return 'meter'
  if (first.quantity !== request.quantity) return 'quantity'
  if (!sameProperties(first.properties, request.properties)) return 'properties'
  return request.verb === 'reserve' ? differingHold(first, request) : differingTime(first, request)
}

function differingCorrection(first: UsageEvent, request: CorrectRequest): string | null {
  if (first.corrects !== request.corrects) return 'corrects'
  if (request.quantity === null) return 'retract'
  return first.quantity === request.quantity ? differingReason(first, request) : 'quantity'
}

function differingRetraction(first: UsageEvent, request: CorrectRequest): string | null {
  if (first.corrects !== request.corrects) return 'corrects'
  return request.quantity === null ? differingReason(first, request) : 'retract'
}

/** Without a reason a correction has the properties of what it corrects, which may be anything: then there is nothing to compare. */
function differingReason(first: UsageEvent, { properties }: CorrectRequest): string | null {
  return properties === null || sameProperties(first.properties, properties) ? null : 'reason'
}

function differingHold(first: UsageEvent, request: ReserveRequest): string | null {
  if (first.heldUntil === null) return null
  return first.heldUntil.getTime() - first.occurredAt.getTime() === request.ttlMs ? null : 'expires_in_seconds'
}

function differingTime(first: UsageEvent, request: RecordRequest): string | null {
  if (!first.dated) return request.occurredAt === null ? null : 'occurred_at'
  return request.occurredAt?.getTime() === first.occurredAt.getTime() ? null : 'occurred_at'
}

function sameProperties(a: UsageProperties | null, b: UsageProperties | null): boolean {
  if (a === null || b === null) return a === b
  const names = Object.keys(a)
  return names.length === Object.keys(b).length && names.every((name) => Object.hasOwn(b, name) && a[name] === b[name])
}
