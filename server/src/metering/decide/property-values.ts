import type { UsageProperties } from '../usage.ts'

type PropertyValue = UsageProperties[string]

/** A property of a use; undefined where it lacks it, also by a name that every object has something of. */
export function propertyOf(properties: UsageProperties | null, name: string): PropertyValue | undefined {
  return properties !== null && Object.hasOwn(properties, name) ? properties[name] : undefined
}

/**
 * The text by which a property's value is told apart wherever it is counted, filtered or grouped by: of a number as ECMAScript writes it
 * (`1e+21`, `1e-7`). So 5 and "5" are one value.
 */
export function textOfValue(value: PropertyValue): string {
  return String(value)
}

/** The values of JSON that have a text. */
export function valuesOfText(text: string): readonly PropertyValue[] {
  const number = Number(text)
  return [
    text,
    ...(Number.isFinite(number) && textOfValue(number) === text ? [number] : []),
    ...[true, false].filter((flag) => textOfValue(flag) === text),
  ]
}

/** What `hasValues` asks for: of each property one of these texts. */
export function wantedValues(wanted: Iterable<readonly [name: string, texts: Iterable<string>]>): string {
  return JSON.stringify(Object.fromEntries([...wanted].map(([name, texts]) => [name, [...texts].flatMap(valuesOfText)])))
}

/**
 * Whether an event `e` has the wanted values, in SQL. PostgreSQL writes numbers otherwise than ECMAScript (1e21 in full), so it compares
 * values of JSON and not their texts.
 * @param parameter holds `wantedValues` as jsonb
 */
export function hasValues(parameter: `$${number}`): string {
  return `not exists (select from jsonb_each(${parameter}::jsonb) as f where not f.value @> jsonb_build_array(e.properties -> f.key))`
}
