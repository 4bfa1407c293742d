/** Removes `undefined` members, so that an optional field is either there or not (exactOptionalPropertyTypes). */
export function defined<T extends object>(object: T): { [F in keyof T]: Exclude<T[F], undefined> } {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as {
    [F in keyof T]: Exclude<T[F], undefined>
  }
}

/** `''` clears a field: gives null for it, the value otherwise. */
export function orNull<T>(value: T | '' | undefined): T | null {
  return value === '' || value === undefined ? null : value
}

/** The new value of a field under an update: untouched when the parameter is absent, null when it is `''`. */
export function updated<T, U>(old: T, param: U | '' | undefined): T | U | null {
  if (param === undefined) return old
  return param === '' ? null : param
}
