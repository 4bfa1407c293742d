import type { Instant } from '../../lib/clock.ts'

/** An object of Stripe as JSON holds it. */
export type StripeObject = Readonly<Record<string, unknown>>

export type Reference = string | { readonly id: string }
export type Metadata = Readonly<Record<string, string>>

/** Stripe's time (whole seconds) as an instant. */
export function fromUnix(seconds: number): Instant {
  return new Date(seconds * 1000)
}

export function fromUnixOrNull(seconds: number | null | undefined): Instant | null {
  return seconds === null || seconds === undefined ? null : fromUnix(seconds)
}

/** An instant as Stripe's time: whole seconds, rounded down. */
export function toUnix(at: Instant): number {
  return Math.floor(at.getTime() / 1000)
}

export function idOf(reference: Reference | null | undefined): string | null {
  if (reference === null || reference === undefined) return null
  return typeof reference === 'string' ? reference : reference.id
}

export function requiredId(reference: Reference | null): string {
  const id = idOf(reference)
  if (id === null) throw new TypeError('Stripe answered an object without the customer or product it belongs to.')
  return id
}

/**
 * A whole object of Stripe, as JSON: what the mirror keeps of it. As text, since most objects that are refetched are only compared with what is known
 * already: made into objects again, those of a refetch took a quarter of its time.
 */
export class WholeObject {
  readonly text: string

  constructor(wire: object) {
    this.text = JSON.stringify(wire)
  }

  toJSON(): StripeObject {
    return JSON.parse(this.text) as StripeObject
  }
}

/** The object as JSON holds it: the SDK's decimals become strings again, its hidden response fields are left out. */
export function toPlainObject(wire: object): StripeObject {
  return JSON.parse(JSON.stringify(wire)) as StripeObject
}
