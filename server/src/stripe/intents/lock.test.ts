import { describe, expect, test } from 'vitest'
import { testDatabase } from '../../../test/database.ts'
import { openDatabase } from '../../db/database.ts'
import { createRateLimiter } from '../gateway/limiter.ts'
import { createLockGate } from './lock-gate.ts'
import { tryOrganizationLock, tryOrganizationLocks, withOrganizationLock } from './lock.ts'

const database = testDatabase()

/** A promise, and what resolves it. */
function gate(): { opened: Promise<void>; open: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { opened: promise, open: resolve }
}

describe('the lock of an organization', () => {
  test('lets one in at a time, also from another process, and others in beside it', async () => {
    const other = { db: openDatabase({ connectionString: database.url }) }
    const held = gate()
    const entered = gate()
    const first = withOrganizationLock(database, 'acme', async () => {
      entered.open()
      await held.opened
    })
    await entered.opened
    expect(await tryOrganizationLock(database, 'acme', async () => 'in')).toBeNull()
    expect(await tryOrganizationLock(other, 'acme', async () => 'in')).toBeNull()
    expect(await tryOrganizationLock(other, 'other', async () => 'in')).toBe('in')
    held.open()
    await first
    expect(await tryOrganizationLock(other, 'acme', async () => 'in')).toBe('in')
    await other.db.close()
  })

  test('is free again after a failure', async () => {
    const failing = withOrganizationLock(database, 'failing', () => Promise.reject(new Error('broken')))
    await expect(failing).rejects.toThrow('broken')
    expect(await tryOrganizationLock(database, 'failing', async () => 'in')).toBe('in')
  })

  test('ends with the connection that held it', async () => {
    const dying = withOrganizationLock(database, 'dying', async (session) => {
      await session.query('select pg_terminate_backend(pg_backend_pid())')
    })
    await expect(dying).rejects.toMatchObject({ code: 'database_unavailable' })
    expect(await withOrganizationLock(database, 'dying', async () => 'in')).toBe('in')
  })

  test('leaves connections to the hot path, however many wait', async () => {
    const held = gate()
    const waiting = Array.from({ length: 60 }, () => withOrganizationLock(database, 'crowded', () => held.opened))
    const { rows } = await database.db.query('select 1 as one')
    expect(rows).toEqual([{ one: 1 }])
    held.open()
    await Promise.all(waiting)
  })
})

describe('the gate within a process', () => {
  test('lets one of a key in, a few at once in all, in the order in which they came', async () => {
    const places = createLockGate(2)
    const order: string[] = []
    const leaveA = await places.enter('a')
    const second = places.enter('a').then((leave) => {
      order.push('a again')
      leave()
    })
    const leaveB = await places.enter('b')
    const third = places.enter('c').then((leave) => {
      order.push('c')
      leave()
    })
    expect(places.tryEnter('d')).toBeNull()
    leaveB()
    await third
    leaveA()
    await second
    expect(order).toEqual(['c', 'a again'])
  })
})

describe('the locks of several organizations', () => {
  test('are those that nobody holds, on one connection, and each may be let go before the others', async () => {
    const other = { db: openDatabase({ connectionString: database.url }) }
    const isFree = async (id: string) => (await tryOrganizationLock(other, id, async () => 'in')) !== null
    await withOrganizationLock(other, 'taken', async () => {
      const held = await tryOrganizationLocks(database, ['one', 'taken', 'two'], async ({ organizationIds, release }) => {
        expect([await isFree('one'), await isFree('two')]).toEqual([false, false])
        await release(['one'])
        expect([await isFree('one'), await isFree('two')]).toEqual([true, false])
        return organizationIds
      })
      expect(held).toEqual(['one', 'two'])
    })
    expect([await isFree('one'), await isFree('two'), await isFree('taken')]).toEqual([true, true, true])
    await other.db.close()
  })

  test('take one place of the gate, until the last is let go', async () => {
    const places = createLockGate(1)
    const entered = places.tryEnterAll(['a', 'b'])!
    expect(entered.keys).toEqual(['a', 'b'])
    expect(places.tryEnterAll(['c'])).toBeNull()
    const waiting = places.enter('a')
    entered.leave('a')
    expect(places.tryEnter('a')).toBeNull()
    entered.leave('b')
    const leave = await waiting
    expect(places.tryEnter('b')).toBeNull()
    leave()
    expect(places.tryEnter('b')).not.toBeNull()
  })
})

describe('the rate limiter', () => {
  test('lets a burst through at once, then no more than its rate, people before workers', async () => {
    const limiter = createRateLimiter({ perSecond: 50, burst: 5 })
    const startedAt = performance.now()
    for (let index = 0; index < 5; index += 1) await limiter.take('background')
    expect(performance.now() - startedAt).toBeLessThan(100)
    const order: string[] = []
    const later = [
      ...Array.from({ length: 5 }, () => limiter.take('background').then(() => order.push('worker'))),
      ...Array.from({ length: 5 }, () => limiter.take('interactive').then(() => order.push('person'))),
    ]
    await Promise.all(later)
    // Ten calls at fifty a second.
    expect(performance.now() - startedAt).toBeGreaterThan(150)
    expect(order).toEqual([...Array.from({ length: 5 }, () => 'person'), ...Array.from({ length: 5 }, () => 'worker')])
  })
})
