import { createHash, randomBytes, randomUUID } from 'node:crypto'
import type { Instant } from './clock.ts'

declare const brand: unique symbol
type Branded<Name extends string> = string & { readonly [brand]: Name }

export type OrganizationId = Branded<'organization'>
export type ApiKeyId = Branded<'api-key'>
export type UserId = Branded<'user'>
export type SessionId = Branded<'session'>
export type InvitationId = Branded<'invitation'>
export type WorkspaceId = Branded<'workspace'>
export type CustomerTokenId = Branded<'customer-token'>
export type GrantId = Branded<'grant'>
export type ReservationId = Branded<'reservation'>
export type UsageEventId = Branded<'usage-event'>

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'

// Chance is drawn from the system a page at a time: asking for 22 bytes at once costs 4 µs, a page of 4,096 hardly more.
const POOL_BYTES = 4_096
let pool = Buffer.alloc(0)
let drawn = 0

function nextByte(): number {
  if (drawn === pool.length) {
    pool = randomBytes(POOL_BYTES)
    drawn = 0
  }
  const byte = pool[drawn]!
  // What was used once is not left in memory: it may be part of a key.
  pool[drawn] = 0
  drawn += 1
  return byte
}

/** `length` characters of base 62, unbiased; 22 characters hold 131 bits, 43 hold 256. */
export function randomBase62(length: number): string {
  let text = ''
  while (text.length < length) {
    const byte = nextByte()
    // 248 is the largest multiple of 62 in a byte: bytes above it would favour the first letters.
    if (byte < 248) text += ALPHABET[byte % 62]
  }
  return text
}

/** A new id such as `key_3kT9…`: the prefix names the kind of thing, as on Stripe. */
export function newId<Id extends string>(prefix: string): Id {
  return `${prefix}_${randomBase62(22)}` as Id
}

/** An id that follows from what it names: the same parts have the same id, everywhere and always. No part may hold a line break. */
export function derivedId(prefix: string, ...parts: readonly string[]): string {
  return `${prefix}_${createHash('sha256').update(parts.join('\n')).digest('hex').slice(0, 32)}`
}

/** A new organization id: the configured prefix and a GUID (KF-2), e.g. `org_6f0c…` or `Jeturing_6f0c…`. */
export function newOrganizationId(prefix: string): OrganizationId {
  return `${prefix}${randomUUID()}` as OrganizationId
}

/** An organization id that follows from the key of the request which makes it: a GUID of version 8, which is free to be a digest. */
export function derivedOrganizationId(prefix: string, key: string): OrganizationId {
  const hex = createHash('sha256').update(key).digest('hex')
  return `${prefix}${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}` as OrganizationId
}

/** A fresh idempotency key for an effect that is about to be stored and then carried out. */
export function newIdempotencyKey(): string {
  return randomUUID()
}

// The events of a group commit share their time and their chance, and are told apart by a count: both are made once.
let headTime = Number.NaN
let head = ''
let tail = ''
let made = 0

/**
 * The id of a usage event: a UUID of version 7 whose time is that at which the event was recorded, so that an event is found by
 * its id alone through the key (organization, recorded_at, id). Those that one process makes for the same millisecond ascend, so that
 * events of one commit are listed in the order in which they were asked for (the first 4,096 of them). https://www.rfc-editor.org/rfc/rfc9562#section-5.7
 */
export function newUsageEventId(recordedAt: Instant): UsageEventId {
  const time = recordedAt.getTime()
  if (time !== headTime) {
    const hex = time.toString(16).padStart(12, '0')
    head = `${hex.slice(0, 8)}-${hex.slice(8)}-7`
    tail = newTail()
    headTime = time
    made = 0
  } else if (made < LAST_COUNT) {
    made += 1
  } else {
    tail = newTail()
  }
  return (head + COUNTS[made]! + tail) as UsageEventId
}

const LAST_COUNT = 0xfff
const COUNTS = Array.from({ length: LAST_COUNT + 1 }, (_, count) => count.toString(16).padStart(3, '0'))

/** Of version 4 the first 48 bits, the version and what follows it are replaced; what remains is chance, and the variant is the same. */
function newTail(): string {
  return randomUUID().slice(18)
}

/** When the event of an id was recorded; null for what is no such id. */
export function recordedAtOf(eventId: string): Instant | null {
  const time = /^([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.exec(eventId)
  return time === null ? null : new Date(Number.parseInt(`${time[1]}${time[2]}`, 16))
}
