import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import { createCatalogRegistry, storeCatalogVersion } from '../catalog/registry.ts'
import type { CatalogDefinition } from '../catalog/schema.ts'
import { formatQuantity, MICRO } from '../lib/quantity.ts'
import { costOfChange } from './decide/session.ts'
import { createMetering, type Metering } from './metering.ts'
import type { RecordRequest, UsageRequest } from './usage.ts'

/** A video, and a seat that stands, cost so many credits. */
const definition = (cost: number): CatalogDefinition => ({
  meters: { video: {}, seats: { aggregation: 'latest' } },
  credits: { credits: { unit: 'credit', costs: { video: cost, seats: cost } } },
  plans: { free: { name: 'Free', allowances: { credits: { amount: 1000, period: 'calendar_month' } } } },
  defaultPlan: 'free',
})
const fixture = testMetering(definition(5))
/** Under terms by which a use costs less, and more. */
const changed = new Map<number, { readonly metering: Metering; readonly version: number }>()
let keys = 0

beforeAll(async () => {
  for (const cost of [2, 10]) {
    const stored = await storeCatalogVersion(fixture.database.db, definition(cost), fixture.clock.now())
    const context = { ...fixture.context(), catalogs: createCatalogRegistry(fixture.database.db, stored) }
    changed.set(cost, { metering: createMetering({ connections: fixture.connections(), ...context }), version: stored.version })
  }
})
afterAll(() => Promise.all([...changed.values()].map(({ metering }) => metering.stop())))

const told = (organizationId: string, meter: string, quantity: number): RecordRequest => ({
  verb: 'track',
  organizationId,
  meter,
  quantity: BigInt(quantity) * MICRO,
  idempotencyKey: `u${(keys += 1)}`,
  occurredAt: null,
  properties: null,
})
const corrected = (organizationId: string, corrects: string, quantity: number | null): UsageRequest => ({
  verb: 'correct',
  organizationId,
  corrects,
  quantity: quantity === null ? null : BigInt(quantity) * MICRO,
  idempotencyKey: `c${(keys += 1)}`,
  properties: null,
})

/** What is used after ten of a meter were told at five credits each, the terms changed, and something was asked. */
async function usedAfter(
  cost: number,
  meter: string,
  ask: (organizationId: string, key: string) => UsageRequest,
): Promise<string> {
  const organizationId = await fixture.newOrganization()
  const use = told(organizationId, meter, 10)
  await fixture.metering().ask(use)
  const { metering, version } = changed.get(cost)!
  await fixture.database.db.query('update accounts set catalog_version = $2 where organization_id = $1', [
    organizationId,
    version,
  ])
  const { balance } = await metering.ask(ask(organizationId, use.idempotencyKey))
  return formatQuantity(balance.used)
}

test.each([2, 10])('a use gives back what it took, also where it would cost %d by now', async (cost) => {
  expect(await usedAfter(cost, 'video', (id, key) => corrected(id, key, null))).toBe('0')
  expect(await usedAfter(cost, 'video', (id, key) => corrected(id, key, -10))).toBe('0')
  expect(await usedAfter(cost, 'video', (id, key) => corrected(id, key, -5))).toBe('25')
  expect(await usedAfter(cost, 'video', (id, key) => corrected(id, key, 1))).toBe(String(50 + cost))
  expect(await usedAfter(cost, 'seats', (id) => told(id, 'seats', 4))).toBe('20')
  expect(await usedAfter(cost, 'seats', (id, key) => corrected(id, key, null))).toBe('0')
})

test('whatever parts a use is taken back in, all of what it drew comes back, and no more', () => {
  const quantity = fc.bigInt({ min: 1n, max: 10_000n * MICRO })
  fc.assert(
    fc.property(quantity, quantity, fc.array(fc.nat(), { maxLength: 10 }), (counted, took, parts) => {
      const meter = { key: 'video', balanceKey: 'credits', cost: 7n * MICRO } as Parameters<typeof costOfChange>[0]
      let left = counted
      let drawn = took
      for (const part of [...parts, Infinity]) {
        const change = part === Infinity ? left : BigInt(part) % (left + 1n)
        const before = { counted: left, drawn: [{ grantId: 'plan', amount: drawn, overage: 0n }] }
        const cost = change === 0n ? 0n : costOfChange(meter, -change, before)
        left -= change
        drawn += cost
        expect(cost <= 0n && drawn >= 0n).toBe(true)
      }
      expect(drawn).toBe(0n)
    }),
  )
})
