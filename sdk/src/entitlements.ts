import { isAway } from './errors.ts'

/** What there is of a feature: true or false, a number or decimal, `'unlimited'`, one of the values of a choice. */
export type FeatureValue = boolean | number | string

/** Whether a feature may be used, and what there is of it. A refusal is an answer. */
export type EntitlementAnswer = {
  readonly feature: string
  readonly name: string
  readonly type: 'boolean' | 'number' | 'choice'
  readonly unit: string | null
  readonly allowed: boolean
  readonly code: 'not_included' | 'suspended' | 'paused' | null
  /** `code` in a sentence. */
  readonly reason: string | null
  /** false is none of it. */
  readonly value: FeatureValue
  readonly source: 'plan' | 'add_on' | 'override' | null
  readonly plan: string
  readonly override_expires_at: string | null
}

/** @param input `organizationId` is only for operators, who act for any organization */
export type ReadEntitlement = (feature: string, input?: { readonly organizationId?: string }) => Promise<EntitlementAnswer>

/** Of so many the last answer is kept; one is a few hundred bytes. */
const MOST_KNOWN = 10_000

/** Answers what was answered last where the server gives no answer now: what somebody has of a feature seldom changes. */
export function rememberEntitlements(read: ReadEntitlement): ReadEntitlement {
  const known = new Map<string, EntitlementAnswer>()
  return async (feature, input) => {
    const name = JSON.stringify([feature, input?.organizationId])
    try {
      const answer = await read(feature, input)
      known.delete(name)
      known.set(name, answer)
      if (known.size > MOST_KNOWN) known.delete(known.keys().next().value!)
      return answer
    } catch (error) {
      const last = known.get(name)
      if (last === undefined || !isAway(error)) throw error
      return last
    }
  }
}
