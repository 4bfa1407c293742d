import { compare } from '@node-rs/bcrypt'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { ManualClock } from '../lib/clock.ts'
import type { ApiKeyId, OrganizationId } from '../lib/ids.ts'
import { DAY_MS, MINUTE_MS } from '../lib/period.ts'
import { makeApiKey, createKeyVerifier, keyOfRequest, type KeyVerifier } from './api-keys.ts'
import { startRevocationListener, type RevocationListener } from './revocations.ts'
import { insertApiKey, listApiKeys, loadDigestSecret, replaceSecret, revokeApiKey } from './store.ts'

const database = testDatabase()
const organizationId = 'org_keys' as OrganizationId
const start = new Date('2026-03-01T00:00:00Z')
const secret = 'a secret of thirty-two characters'
const listeners: RevocationListener[] = []

/** One process: its own listener, its own cache, and a count of how often bcrypt was asked. */
async function startProcess(
  clock = new ManualClock(start),
  compareHash: (key: string, hash: string) => Promise<boolean> = compare,
): Promise<{ verifier: KeyVerifier; listener: RevocationListener; asked: () => number; clock: ManualClock }> {
  let asked = 0
  const listener = await startRevocationListener({ connectionString: database.url, onError: () => undefined })
  listeners.push(listener)
  const verifier = createKeyVerifier({
    db: database.db,
    secret,
    clock,
    revocations: listener,
    operatorKey: 'the-operator-key-of-this-test',
    compareHash: (key, hash) => {
      asked += 1
      return compareHash(key, hash)
    },
  })
  return { verifier, listener, asked: () => asked, clock }
}

async function makeKey(expiresAt: Date | null = null): Promise<{ key: string; id: ApiKeyId }> {
  const { key, row } = await makeApiKey(
    secret,
    { organizationId, name: 'application', scopes: ['read', 'write'], expiresAt },
    start,
  )
  await insertApiKey(database.db, row, null)
  return { key, id: row.id }
}

beforeAll(async () => {
  await database.db.query(`insert into organizations (id, name, email, created_at) values ($1, 'Keys', 'a@example.com', now())`, [
    organizationId,
  ])
})

afterEach(async () => {
  await Promise.all(listeners.splice(0).map((listener) => listener.stop()))
})

describe('API keys', () => {
  it('EM-12 are stored as a bcrypt hash of cost 12 behind a digest, and never as themselves', async () => {
    const { key, id } = await makeKey()
    const stored = await database.db.query<{ bcrypt_hash: string }>('select * from api_keys where id = $1', [id])
    expect(stored.rows[0]!.bcrypt_hash).toMatch(/^\$2[aby]\$12\$/)
    expect(JSON.stringify(stored.rows)).not.toContain(key)
    expect(JSON.stringify(await listApiKeys(database.db, organizationId))).not.toContain(key)
  })

  it('EM-12 ask bcrypt once in five minutes, however often they are used', async () => {
    const { key } = await makeKey()
    const { verifier, asked, clock } = await startProcess()
    await Promise.all(Array.from({ length: 20 }, () => verifier.verify(key)))
    expect(await verifier.verify(key)).toMatchObject({ kind: 'api_key', organizationId, scopes: ['read', 'write'] })
    expect(verifier.known(key)).toEqual(await verifier.verify(key))
    expect(asked()).toBe(1)
    clock.advance(5 * MINUTE_MS)
    expect(verifier.known(key)).toBeNull()
    await verifier.verify(key)
    expect(asked()).toBe(2)
  })

  it('that are wrong never reach bcrypt', async () => {
    const { key } = await makeKey()
    const { verifier, asked } = await startProcess()
    for (const wrong of [`${key}x`, key.slice(0, -1), `tg_${'0'.repeat(43)}`, '', 'sk_test_1']) {
      expect(await verifier.verify(wrong)).toBeNull()
      expect(verifier.known(wrong)).toBeNull()
    }
    expect(asked()).toBe(0)
  })

  it('stop working on every process within a second of their revocation', async () => {
    const { key, id } = await makeKey()
    const processes = [await startProcess(), await startProcess()]
    for (const { verifier } of processes) expect(await verifier.verify(key)).not.toBeNull()
    const before = performance.now()
    expect(await revokeApiKey(database.db, { organizationId, id }, start)).toBe(true)
    for (const { verifier } of processes) {
      while ((await verifier.verify(key)) !== null && performance.now() - before < 1_000) {
        await new Promise((resolve) => {
          setImmediate(resolve)
        })
      }
      expect(await verifier.verify(key)).toBeNull()
      expect(verifier.known(key)).toBeNull()
    }
    expect(await revokeApiKey(database.db, { organizationId, id }, start)).toBe(false)
  })

  it('are looked up on every call while news of revocations cannot arrive', async () => {
    const { key, id } = await makeKey()
    const { verifier, listener, asked } = await startProcess()
    await verifier.verify(key)
    await listener.stop()
    listeners.length = 0
    await database.db.query('update api_keys set revoked_at = $2 where id = $1', [id, start])
    expect(listener.isCurrent()).toBe(false)
    expect(verifier.known(key)).toBeNull()
    expect(await verifier.verify(key)).toBeNull()
    expect(asked()).toBe(1)
  })

  it('whose secret is replaced while it is verified for the first time are refused', async () => {
    const { key, id } = await makeKey()
    const revocations = await startRevocationListener({ connectionString: database.url, onError: () => undefined })
    listeners.push(revocations)
    const options = { db: database.db, secret, clock: new ManualClock(start), revocations, operatorKey: null }
    const verifier = createKeyVerifier({
      ...options,
      async compareHash(given, hash) {
        const { row } = await makeApiKey(secret, { organizationId, name: 'application', scopes: ['read'] }, start)
        await replaceSecret(database.db, { organizationId, id }, row)
        return compare(given, hash)
      },
    })
    expect(await verifier.verify(key)).toBeNull()
  })

  it('that are made or used for the first time in plenty ask bcrypt for two at once, and leave threads to the rest', async () => {
    let [running, most] = [0, 0]
    const { verifier } = await startProcess(new ManualClock(start), async (key, hash) => {
      running += 1
      most = Math.max(most, running)
      return compare(key, hash).finally(() => (running -= 1))
    })
    const keys = await Promise.all(Array.from({ length: 6 }, () => makeKey()))
    expect(await Promise.all(keys.map(({ key }) => verifier.verify(key)))).not.toContain(null)
    expect(most).toBe(2)
  })

  it('end when they expire, also out of the cache', async () => {
    const { key } = await makeKey(new Date(start.getTime() + MINUTE_MS))
    const { verifier, clock } = await startProcess()
    expect(await verifier.verify(key)).not.toBeNull()
    clock.set(new Date(start.getTime() + MINUTE_MS))
    expect(verifier.known(key)).toBeNull()
    expect(await verifier.verify(key)).toBeNull()
    clock.advance(DAY_MS)
    expect(await verifier.verify(key)).toBeNull()
  })

  it('of an operator open every organization', async () => {
    const { verifier, asked } = await startProcess()
    expect(await verifier.verify('the-operator-key-of-this-test')).toEqual({ kind: 'operator', name: 'bootstrap' })
    expect(asked()).toBe(0)
  })
})

it('agrees on one digest secret when several servers start together', async () => {
  const secrets = await Promise.all(['one', 'two', 'three'].map((made) => loadDigestSecret(database.db, undefined, () => made)))
  expect(new Set(secrets).size).toBe(1)
  expect(await loadDigestSecret(database.db, 'given', () => 'made')).toBe('given')
})

it('reads the key of a request under both headers', () => {
  expect(keyOfRequest(new Headers({ authorization: 'Bearer abc' }))).toBe('abc')
  expect(keyOfRequest(new Headers({ 'x-api-key': 'abc' }))).toBe('abc')
  expect(keyOfRequest(new Headers({ authorization: 'Basic abc' }))).toBeNull()
})
