import { createConnection, createServer, type Server, type Socket } from 'node:net'
import { once } from 'node:events'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import { DomainError } from '../lib/errors.ts'
import { MICRO } from '../lib/quantity.ts'
import { createMetering, type Metering } from './metering.ts'
import { readBalances } from './reads.ts'
import { openUsageConnections, type UsageConnections } from './write/pipeline.ts'

const fixture = testMetering()

/** PostgreSQL behind a line that takes its time, and that can be cut in the middle of whatever it carries. */
type SlowLine = { readonly url: string; cut(): void; close(): Promise<void> }

async function openSlowLine(delayMs: number): Promise<SlowLine> {
  const target = new URL(fixture.database.url)
  const sockets = new Set<Socket>()
  const carry = (from: Socket, to: Socket): void => {
    sockets.add(from)
    from.on('data', (bytes) => setTimeout(() => to.write(bytes), delayMs))
    from.on('error', () => {})
    from.on('close', () => {
      sockets.delete(from)
      to.destroy()
    })
  }
  const server: Server = createServer((near) => {
    const far = createConnection({ port: Number(target.port), host: target.hostname })
    carry(near, far)
    carry(far, near)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const slow = new URL(fixture.database.url)
  slow.port = String(typeof address === 'object' ? address?.port : '')
  const cut = (): void => {
    for (const socket of sockets) socket.destroy()
  }
  return {
    url: slow.href,
    cut,
    async close() {
      server.close()
      cut()
      await once(server, 'close')
    },
  }
}

let line: SlowLine
let connections: UsageConnections
let metering: Metering

beforeEach(async () => {
  line = await openSlowLine(5)
  connections = openUsageConnections({ connectionString: line.url, size: 4 })
  metering = createMetering({ ...fixture.context(), connections, queueSize: 20 })
})
afterEach(async () => {
  await metering.stop()
  await connections.close()
  await line.close()
})

type Told = { readonly allowed: boolean; readonly refusals: readonly string[] }

/** Asks again with the same key until there is an answer; tells with what it was put off meanwhile. */
async function insist(organizationId: string, key: string): Promise<Told> {
  const refusals: string[] = []
  for (;;) {
    try {
      const answer = await metering.ask({
        verb: 'consume',
        organizationId,
        meter: 'episode_ingestion',
        quantity: MICRO,
        idempotencyKey: key,
        occurredAt: null,
        properties: null,
      })
      return { allowed: answer.allowed, refusals }
    } catch (error) {
      refusals.push(error instanceof DomainError ? error.code : String(error))
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
}

async function creditsUsed(organizationId: string): Promise<bigint> {
  const reading = await fixture.connections().read((client) => readBalances(client, fixture.context(), organizationId))
  return reading.balances[0]!.used
}

const insistOnAll = (organizationId: string, count: number): Promise<readonly Told[]> =>
  Promise.all(Array.from({ length: count }, (_, index) => insist(organizationId, `key-${index}`)))

test('a slow database and a short queue put callers off with overloaded alone, and lose and double nothing', async () => {
  const organizationId = await fixture.newOrganization()
  const told = await insistOnAll(organizationId, 80)
  expect(told.every(({ allowed }) => allowed)).toBe(true)
  expect(new Set(told.flatMap(({ refusals }) => refusals))).toEqual(new Set(['overloaded']))
  expect(await creditsUsed(organizationId)).toBe(80n * MICRO)
})

test('a line that is cut again and again in the middle of groups loses and doubles nothing', async () => {
  const organizationId = await fixture.newOrganization()
  const load = insistOnAll(organizationId, 150)
  let cuts = 0
  const cutting = setInterval(() => {
    line.cut()
    if ((cuts += 1) === 12) clearInterval(cutting)
  }, 23)
  const told = await load
  clearInterval(cutting)
  expect(told.filter(({ allowed }) => allowed)).toHaveLength(100)
  const reasons = new Set(told.flatMap(({ refusals }) => refusals))
  expect(['overloaded', 'database_unavailable'].filter((reason) => reasons.delete(reason))).toContain('overloaded')
  expect([...reasons]).toEqual([])
  expect(await creditsUsed(organizationId)).toBe(100n * MICRO)
  const { rows } = await fixture.database.db.query<{ events: number; keys: number }>(
    'select count(*)::int as events, count(distinct idempotency_key)::int as keys from usage_events where organization_id = $1',
    [organizationId],
  )
  expect(rows).toEqual([{ events: 150, keys: 150 }])
})
