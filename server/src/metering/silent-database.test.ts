import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { PATIENCE } from '../../test/patience.ts'
import { testMetering } from '../../test/metering.ts'
import { startRevocationListener } from '../auth/revocations.ts'
import { openDatabase } from '../db/database.ts'
import { MICRO } from '../lib/quantity.ts'
import { startChangeFeed } from '../usage/changes.ts'
import { createMetering } from './metering.ts'
import { openUsageConnections } from './write/pipeline.ts'

const fixture = testMetering()
const SILENT_MS = 400
/** Between the tests and PostgreSQL: an address whose machine may go without a word, after which another one answers there. */
let address: Server
let ends: (readonly [Socket, Socket])[] = []

beforeAll(async () => {
  const { host, port } = socketOf(fixture.database.url)
  address = createServer((near) => {
    const far = connect({ host, port })
    near.pipe(far).pipe(near)
    for (const end of [near, far]) end.on('error', () => undefined)
    ends.push([near, far])
  }).listen(0, '127.0.0.1')
  await once(address, 'listening')
})
afterAll(() => {
  for (const end of ends.flat()) end.destroy()
  address.close()
})

function socketOf(url: string): { host: string; port: number } {
  const { hostname, port } = new URL(url)
  return { host: hostname, port: Number(port) }
}

function urlThrough(): string {
  const url = new URL(fixture.database.url)
  url.port = String((address.address() as AddressInfo).port)
  return url.href
}

/** Nothing arrives any more on what is connected, and nothing says so. */
function goSilent(): void {
  for (const [near, far] of ends) {
    near.unpipe(far)
    far.unpipe(near)
    for (const end of [near, far]) end.pause()
  }
}

test('a database that goes without a word is left for its successor: uses are counted once, statements fail, revocations are heard again', async () => {
  const organizationId = await fixture.newOrganization()
  const connectionString = urlThrough()
  const connections = openUsageConnections({ connectionString, size: 2, silentMs: SILENT_MS })
  const metering = createMetering({ ...fixture.context(), connections })
  const db = openDatabase({ connectionString, poolSize: 2, silentMs: SILENT_MS })
  const revocations = await startRevocationListener({ connectionString, onError: () => undefined })
  const use = (idempotencyKey: string) =>
    metering.ask({
      verb: 'consume',
      organizationId,
      meter: 'episode_ingestion',
      quantity: MICRO,
      idempotencyKey,
      occurredAt: null,
      properties: null,
    })
  await Promise.all([use('before'), db.query('select 1')])

  goSilent()
  const [used, asked] = await Promise.allSettled([use('during'), db.query('select 1')])
  expect(used).toMatchObject({ status: 'fulfilled', value: { allowed: true, balance: { used: 2n * MICRO } } })
  expect(asked).toMatchObject({ status: 'rejected', reason: { code: 'database_unavailable' } })
  expect((await db.query<{ one: number }>('select 1 as one')).rows).toEqual([{ one: 1 }])
  await vi.waitFor(() => expect(revocations.isCurrent()).toBe(true), PATIENCE)

  await Promise.all([metering.stop(), revocations.stop()])
  await Promise.all([connections.close(), db.close()])
})

test('who has not been answered for seconds is told so once nobody is at work on it, and a long statement is let be', async () => {
  // Times are written otherwise by whoever has not said how.
  const name = new URL(fixture.database.url).pathname.slice(1)
  await fixture.database.db.query(`alter database ${name} set TimeZone = 'Asia/Kathmandu'`)
  const patient = { poolSize: 1, silentMs: 60_000 }
  const lost = openDatabase({ connectionString: urlThrough(), ...patient })
  const busy = openDatabase({ connectionString: fixture.database.url, ...patient })
  await lost.query('select 1')
  goSilent()
  const [asked, slept] = await Promise.allSettled([lost.query('select 1'), busy.query('select 1 as one from pg_sleep(9)')])
  expect(asked).toMatchObject({ status: 'rejected', reason: { code: 'database_unavailable' } })
  expect(slept).toMatchObject({ status: 'fulfilled', value: { rows: [{ one: 1 }] } })
  expect((await lost.query<{ one: number }>('select 1 as one')).rows).toEqual([{ one: 1 }])
  await Promise.all([lost.close(), busy.close()])
  await fixture.database.db.query(`alter database ${name} reset TimeZone`)
}, 40_000)

test('a statement that takes longer than the patience is ended by PostgreSQL, and does not go on there', async () => {
  const db = openDatabase({ connectionString: urlThrough(), poolSize: 1, silentMs: SILENT_MS })
  await expect(db.query(`select pg_sleep(${SILENT_MS / 100})`)).rejects.toMatchObject({ code: '57014' })
  const going = `select from pg_stat_activity where state = 'active' and query like 'select pg_sleep%'`
  await vi.waitFor(async () => expect((await fixture.database.db.query(going)).rowCount).toBe(0), PATIENCE)
  await db.close()
})

test('news of changes are heard again from the successor of a database that went without a word', async () => {
  const { db } = fixture.database
  const [far, near] = [urlThrough(), fixture.database.url].map((connectionString) =>
    startChangeFeed({ connectionString, db, onError: () => undefined }),
  )
  const heard: (readonly string[] | null)[] = []
  far!.listen((ids) => heard.push(ids))
  await vi.waitFor(() => expect(heard).toEqual([null]), PATIENCE)
  goSilent()
  await vi.waitFor(
    () => {
      near!.tell(['changed'])
      expect(heard).toContainEqual(['changed'])
    },
    { ...PATIENCE, interval: 200 },
  )
  await Promise.all([far!.stop(), near!.stop()])
})

test('who is not answered when they begin to listen leaves no connection behind', async () => {
  const open = new Set<Socket>()
  const { host, port } = socketOf(fixture.database.url)
  const slow = createServer((near) => {
    const far = connect({ host, port })
    open.add(near)
    near.on('close', () => {
      open.delete(near)
      far.destroy()
    })
    for (const end of [near, far]) end.on('error', () => undefined)
    // All but LISTEN is answered.
    near.on('data', (bytes: Buffer) => void (bytes.includes('listen') || far.write(bytes)))
    far.pipe(near)
  }).listen(0, '127.0.0.1')
  await once(slow, 'listening')
  const url = new URL(fixture.database.url)
  url.port = String((slow.address() as AddressInfo).port)
  const failures: unknown[] = []
  const feed = startChangeFeed({ connectionString: url.href, db: fixture.database.db, onError: (error) => failures.push(error) })
  feed.listen(() => undefined)
  await vi.waitFor(() => expect(failures.length).toBeGreaterThan(1), PATIENCE)
  expect(open.size).toBeLessThan(2)
  await feed.stop()
  slow.close()
})

test('a connection that nobody waits on is not given up, however long it says nothing', async () => {
  const db = openDatabase({ connectionString: urlThrough(), poolSize: 1, silentMs: SILENT_MS })
  const pid = async () => (await db.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]!.pid
  const first = await pid()
  await db.query('select pg_sleep($1)', [SILENT_MS / 2_000])
  const later = await new Promise((resolve) => setTimeout(() => resolve(pid()), SILENT_MS * 2))
  expect(later).toBe(first)
  await db.close()
})
