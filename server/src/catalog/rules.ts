import { parseQuantity } from '../lib/quantity.ts'
import type { Feature, FeatureValue } from './catalog.ts'

/** What somebody may write for what there is of a feature; `false` and `0` are nothing. */
export type FeatureValueInput = boolean | number | string

/** A value that was read, null for nothing, or what is wrong with it in a sentence. */
export type FeatureReading = { readonly value: FeatureValue | null } | { readonly problem: string }

/** @param place where it is written, for the sentence */
export function readFeatureValue(feature: Feature, given: FeatureValueInput, place: string): FeatureReading {
  if (given === false) return { value: null }
  switch (feature.type) {
    case 'boolean':
      return given === true ? { value: given } : { problem: `${place}: true or false is expected.` }
    case 'number':
      if (given === 'unlimited') return { value: given }
      return given === true ? { problem: `${place}: a number or 'unlimited' is expected.` } : readNumber(given, place)
    case 'choice':
      return typeof given === 'string' && feature.values.includes(given)
        ? { value: given }
        : { problem: `${place}: one of ${feature.values.join(', ')} is expected.` }
  }
}

function readNumber(given: number | string, place: string): FeatureReading {
  try {
    const value = parseQuantity(given, place)
    if (value < 0n) return { problem: `${place}: a negative amount means nothing here.` }
    return { value: value === 0n ? null : value }
  } catch (error) {
    return { problem: error instanceof Error ? error.message : String(error) }
  }
}
