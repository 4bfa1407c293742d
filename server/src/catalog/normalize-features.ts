import type { Feature, FeatureValue } from './catalog.ts'
import { list } from './problems.ts'
import { readFeatureValue, type FeatureValueInput } from './rules.ts'
import type { CatalogDefinition } from './schema.ts'

type FeatureInput = NonNullable<CatalogDefinition['features']>[string]

export function normalizeFeatures(input: CatalogDefinition['features'], problems: string[]): Map<string, Feature> {
  return new Map(Object.entries(input ?? {}).map(([key, feature]) => [key, normalizeFeature(key, feature, problems)]))
}

function normalizeFeature(key: string, { name, type = 'boolean', unit, values }: FeatureInput, problems: string[]): Feature {
  const place = `features.${key}`
  if (unit !== undefined && type !== 'number') problems.push(`${place}.unit: only a number has one.`)
  if ((values !== undefined) !== (type === 'choice')) problems.push(`${place}.values: a choice has them, and nothing else.`)
  if (new Set(values).size !== (values ?? []).length) problems.push(`${place}.values: one is named twice.`)
  return { key, name: name ?? key, type, unit: unit ?? null, values: values ?? [] }
}

/** What a plan or an add-on has of features; what is nothing (`false`, `0`) is left out. */
export function normalizeFeatureValues(
  input: Readonly<Record<string, FeatureValueInput>> | undefined,
  features: ReadonlyMap<string, Feature>,
  place: string,
  problems: string[],
): Map<string, FeatureValue> {
  const values = new Map<string, FeatureValue>()
  for (const [key, given] of Object.entries(input ?? {})) {
    const feature = features.get(key)
    if (feature === undefined) {
      problems.push(`${place}.${key}: no feature is called "${key}"; declared: ${list(features.keys())}.`)
      continue
    }
    const read = readFeatureValue(feature, given, `${place}.${key}`)
    if ('problem' in read) problems.push(read.problem)
    else if (read.value !== null) values.set(key, read.value)
  }
  return values
}
