import { createHmac, hash as hashOf, timingSafeEqual } from 'node:crypto'
import { compare, hash } from '@node-rs/bcrypt'
import type { Queryable } from '../db/database.ts'
import type { Clock, Instant } from '../lib/clock.ts'
import { newId, randomBase62, type ApiKeyId, type OrganizationId } from '../lib/ids.ts'
import { MINUTE_MS } from '../lib/period.ts'
import { hashing } from './hashing.ts'
import type { Principal, Scope } from './principal.ts'
import type { RevocationFeed } from './revocations.ts'
import { findApiKeyByDigest, noteFirstUse, type ApiKey, type ApiKeyRow, type NewApiKey } from './store.ts'

/** EM-12. One verification takes about 250 ms, so a cache and a digest stand in front of it. */
const BCRYPT_COST = 12
const CACHE_MS = 5 * MINUTE_MS
const CACHE_SIZE = 10_000
const KEY_PREFIX = 'tg_'

export type ApiKeyInput = {
  readonly organizationId: OrganizationId
  readonly name: string
  readonly scopes: readonly Scope[]
  readonly expiresAt?: Instant | null
}

/**
 * Makes a key (256 bits of chance) and the row that stands for it: its digest and its hash, from which it cannot be had
 * back. Takes as long as bcrypt does, about 250 ms: call it outside of a transaction.
 * @throws DomainError `overloaded` when the organization waits for too many
 */
export async function makeApiKey(
  secret: string,
  input: ApiKeyInput,
  now: Instant,
): Promise<{ readonly key: string; readonly row: NewApiKey }> {
  const key = `${KEY_PREFIX}${randomBase62(43)}`
  const row = {
    organizationId: input.organizationId,
    id: newId<ApiKeyId>('key'),
    name: input.name,
    scopes: input.scopes,
    displayPrefix: key.slice(0, 8),
    createdAt: now,
    expiresAt: input.expiresAt ?? null,
    digest: digestOf(secret, key),
    bcryptHash: await hashing.take(input.organizationId, () => hash(key, { cost: BCRYPT_COST })),
  }
  return { key, row }
}

/** What is stored of a key or token, and finds it again. */
export function digestOf(secret: string, key: string): Buffer {
  return createHmac('sha256', secret).update(key).digest()
}

export type KeyVerifier = {
  /** Who holds a key that was verified lately; null where that takes a look at the database, or is wrong. */
  known(key: string): Principal | null
  /** Who holds this key; null for a wrong, revoked or expired one. */
  verify(key: string): Promise<Principal | null>
}

/** Finds out at once who calls, where nobody has to be asked; null where somebody has. */
export type Recognizer = (headers: { get(name: string): string | null }) => Principal | null

export type KeyVerifierOptions = {
  readonly db: Queryable
  readonly secret: string
  readonly clock: Clock
  readonly revocations: RevocationFeed
  /** The bootstrap operator key; null when there is none. */
  readonly operatorKey: string | null
  /** Asks bcrypt; replaced in the test that counts how often it is asked. */
  readonly compareHash?: (key: string, bcryptHash: string) => Promise<boolean>
}

type Verified = { readonly row: ApiKeyRow; readonly principal: Principal; readonly until: number }

/**
 * Verifies keys: digest → row → bcrypt, the answer kept for five minutes. A revocation told by the feed drops it at once; while
 * the feed is down no kept answer is trusted without a look at the row.
 */
export function createKeyVerifier(options: KeyVerifierOptions): KeyVerifier {
  const { db, secret, clock, revocations } = options
  const compareHash = options.compareHash ?? compare
  const verified = new Map<string, Verified>()
  const pending = new Map<string, Promise<Principal | null>>()
  const operatorDigest = options.operatorKey === null ? null : digestOf(secret, options.operatorKey)

  revocations.onRevoked((keyId) => {
    for (const [name, entry] of verified) if (keyId === null || entry.row.id === keyId) verified.delete(name)
  })

  type Asked = { readonly name: string; readonly known: Verified | undefined }

  async function lookUp(key: string, { name, known }: Asked): Promise<Principal | null> {
    const generation = revocations.generation()
    const digest = digestOf(secret, key)
    const found = await findApiKeyByDigest(db, digest)
    if (!found || !isLive(found, clock.now())) return null
    if (known === undefined) {
      if (!(await hashing.take(found.organizationId, () => compareHash(key, found.bcryptHash)))) return null
      if (found.firstUsedAt === null && !(await noteFirstUse(db, digest, clock.now()))) return null
      // A revocation that arrived while bcrypt worked must not be outlived by what is kept now.
      if (revocations.generation() === generation) keep(name, found)
    }
    return principalOf(found)
  }

  function keep(name: string, row: ApiKeyRow): void {
    if (verified.size >= CACHE_SIZE) verified.delete(verified.keys().next().value!)
    verified.set(name, { row, principal: principalOf(row), until: clock.now().getTime() + CACHE_MS })
  }

  function verifiedLately(name: string, now: Instant): Verified | undefined {
    const entry = verified.get(name)
    return entry !== undefined && entry.until > now.getTime() ? entry : undefined
  }

  function isOperator(key: string): boolean {
    return operatorDigest !== null && timingSafeEqual(digestOf(secret, key), operatorDigest)
  }

  return {
    known(key) {
      const now = clock.now()
      const known = verifiedLately(nameOf(key), now)
      return known && revocations.isCurrent() && isLive(known.row, now) ? known.principal : null
    },
    async verify(key) {
      const name = nameOf(key)
      const now = clock.now()
      const known = verifiedLately(name, now)
      if (known && revocations.isCurrent()) return isLive(known.row, now) ? known.principal : null
      if (isOperator(key)) return { kind: 'operator', name: 'bootstrap' }
      if (!key.startsWith(KEY_PREFIX)) return null
      const running = pending.get(name)
      if (running) return running
      const lookingUp = lookUp(key, { name, known }).finally(() => pending.delete(name))
      pending.set(name, lookingUp)
      return lookingUp
    },
  }
}

/** What is kept goes by a plain hash, which takes 0.3 µs where the keyed one takes 2.8; it never leaves this process. */
function nameOf(key: string): string {
  return hashOf('sha256', key, 'base64')
}

function isLive(key: ApiKey, now: Instant): boolean {
  return key.revokedAt === null && (key.expiresAt === null || key.expiresAt > now)
}

function principalOf(row: ApiKeyRow): Principal {
  return { kind: 'api_key', keyId: row.id, organizationId: row.organizationId, scopes: row.scopes }
}

/** The key of a request: `Authorization: Bearer <key>` or `X-API-Key: <key>`; null when it carries none. */
export function keyOfRequest(headers: { get(name: string): string | null }): string | null {
  const authorization = headers.get('authorization')
  if (authorization !== null && /^bearer /i.test(authorization)) return authorization.slice(7).trim()
  return headers.get('x-api-key')
}
