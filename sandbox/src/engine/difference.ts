type Json = Record<string, unknown>

function isRecord(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Deep equality of JSON values. */
export function sameJson(left: unknown, right: unknown): boolean {
  if (left === right) return true
  if (Array.isArray(left)) {
    return Array.isArray(right) && left.length === right.length && left.every((member, at) => sameJson(member, right[at]))
  }
  if (!isRecord(left) || !isRecord(right)) return false
  const names = Object.keys(left)
  return names.length === Object.keys(right).length && names.every((name) => name in right && sameJson(left[name], right[name]))
}

/**
 * `previous_attributes` of an update event: the old values of what changed. A hash holds only its changed members (null where a
 * member is new); a list that changed is given whole.
 */
export function previousAttributes(before: Json, after: Json): Json {
  const previous: Json = {}
  for (const name of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [old, fresh] = [before[name], after[name]]
    if (sameJson(old, fresh)) continue
    if (isRecord(old) && isRecord(fresh)) previous[name] = previousAttributes(old, fresh)
    else previous[name] = old ?? null
  }
  return previous
}
