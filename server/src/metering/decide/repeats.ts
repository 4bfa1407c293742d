import type { CorrectRequest, RecordRequest, ReserveRequest, UsageEvent, UsageProperties } from '../usage.ts'

/**
 * The first field in which a request differs from the one that used its key before, by its name on the wire;
 * null when it is a true repeat. So is a `consume` of a use that was tracked: it has happened, at the time that was told (docs/decisions/0291).
 * @param corrected what a correction corrects; undefined where that is older than keys are kept
 */
export function differingField(
  first: UsageEvent,
  request: RecordRequest | ReserveRequest | CorrectRequest,
  corrected: UsageEvent | undefined,
): string | null {
  if (request.verb === 'correct') return differingCorrection(first, request, corrected)
  const isAskedAfter = first.verb === 'track' && request.verb === 'consume'
  if (first.verb !== request.verb && !isAskedAfter) return 'verb'
  if (first.meter !== request.meter) return 'meter'
  if (first.quantity !== request.quantity) return 'quantity'
  if (!sameProperties(first.properties, request.properties)) return 'properties'
  if (request.verb === 'reserve') return differingHold(first, request)
  return isAskedAfter && request.occurredAt === null ? null : differingTime(first, request)
}

function differingCorrection(first: UsageEvent, request: CorrectRequest, corrected: UsageEvent | undefined): string | null {
  if (first.verb !== 'correct' && first.verb !== 'retract') return 'verb'
  if (first.corrects !== request.corrects) return 'corrects'
  if ((first.verb === 'retract') !== (request.quantity === null)) return 'retract'
  if (request.quantity !== null && first.quantity !== request.quantity) return 'quantity'
  // Without a reason a correction has the properties of what it corrects.
  const properties = request.properties ?? corrected?.properties
  return properties === undefined || sameProperties(first.properties, properties) ? null : 'reason'
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
