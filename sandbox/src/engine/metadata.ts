import { invalidRequest } from './errors.ts'

const MAX_KEYS = 50
const MAX_KEY = 40
const MAX_VALUE = 500

/** Metadata as a parameter: `''` clears everything, a key with `''` (or null) removes the key. */
export type MetadataParam = '' | null | Record<string, string | number | null> | undefined

/**
 * Merges the metadata parameter into what is stored. Limits as on Stripe: 50 keys, 40 characters a key, 500 a value.
 */
export function mergeMetadata(
  old: Readonly<Record<string, string>> | null | undefined,
  param: MetadataParam,
): Record<string, string> {
  if (param === undefined) return { ...old }
  if (param === '' || param === null) return {}
  const merged = { ...old }
  for (const [key, value] of Object.entries(param)) {
    if (value === '' || value === null) delete merged[key]
    else merged[checkedKey(key)] = checkedValue(key, String(value))
  }
  if (Object.keys(merged).length > MAX_KEYS) {
    throw invalidRequest(`You can only specify up to ${MAX_KEYS} metadata keys.`, { param: 'metadata' })
  }
  return merged
}

function checkedKey(key: string): string {
  if (key.length > MAX_KEY || key === '' || /[[\]]/.test(key)) {
    throw invalidRequest(`Metadata keys must be 1 to ${MAX_KEY} characters long and hold no square brackets: ${key}`, {
      param: `metadata[${key}]`,
    })
  }
  return key
}

function checkedValue(key: string, value: string): string {
  if (value.length > MAX_VALUE) {
    throw invalidRequest(`Metadata values must be no longer than ${MAX_VALUE} characters: ${key}`, { param: `metadata[${key}]` })
  }
  return value
}
