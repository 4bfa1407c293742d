import type { Instant } from '../lib/clock.ts'

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

/** The object as JSON holds it: the SDK's decimals become strings again, its hidden response fields are left out. */
export function toPlainObject(wire: object): StripeObject {
  return JSON.parse(JSON.stringify(wire)) as StripeObject
}
