import { beforeEach, expect, test } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import { createCatalogRegistry, storeCatalogVersion } from '../catalog/registry.ts'
import type { CatalogDefinition } from '../catalog/schema.ts'
import { parseQuantity } from '../lib/quantity.ts'
import { createMetering, type Metering } from '../metering/metering.ts'

const sold = (cents: number) => ({
  name: 'Sold',
  allowances: {
    calls: {
      amount: 100,
      limit: 'soft' as const,
      spendLimitMinor: 5_000,
      overage: { model: 'per_unit' as const, unitAmountMinor: cents },
    },
  },
})

/** `pro` sells what is over its hundred calls at so many cents each; null sells no `pro`. */
const selling = (cents: number | null, name = 'Free'): CatalogDefinition => ({
  meters: { calls: {} },
  plans: { free: { name, allowances: { calls: { amount: 1 } } }, big: sold(1), ...(cents !== null && { pro: sold(cents) }) },
  defaultPlan: 'free',
})

const fixture = testMetering(selling(10))
const period = { start: new Date('2026-03-05T00:00:00Z'), end: new Date('2026-04-05T00:00:00Z') }
let organization: string
beforeEach(async () => {
  organization = await fixture.newOrganization()
})

async function ask(metering: Metering, verb: 'check' | 'consume', calls: number): Promise<boolean> {
  const use = { organizationId: organization, meter: 'calls', quantity: parseQuantity(calls), properties: null }
  const told = { ...use, idempotencyKey: `${organization} ${calls}`, occurredAt: null }
  const answer = await metering.ask(verb === 'check' ? { verb, ...use } : { verb, ...told })
  return 'allowed' in answer && answer.allowed
}

test.each([
  // 40.00 of 50.00 are spent: what is left buys 50 at 20 cents, 1,000 at 1 cent, 100 at 10 cents.
  ['its price is raised', selling(20), 'pro', 50],
  ['another plan is taken, and the old one is dearer now', selling(20), 'big', 1_000],
  ['another plan is taken, and the old one is sold no more', selling(null), 'big', 1_000],
  ['only something else of the catalog changes', selling(10, 'Gratis'), 'pro', 100],
])('overage costs what its plan charged when it was used, where %s', async (_, definition, planKey, left) => {
  await fixture.subscribe(organization, 'pro', period)
  expect(await ask(fixture.metering(), 'consume', 500)).toBe(true)

  const { db } = fixture.database
  const later = await storeCatalogVersion(db, definition, fixture.clock.now())
  const catalogs = createCatalogRegistry(db, later)
  const metering = createMetering({ connections: fixture.connections(), ...fixture.context(), catalogs })
  await db.query('update accounts set catalog_version = $2, plan_key = $3 where organization_id = $1', [
    organization,
    later.version,
    planKey,
  ])
  // The check reads what the use will write.
  for (const verb of ['check', 'consume'] as const) {
    expect(await ask(metering, verb, left + 1)).toBe(false)
    expect(await ask(metering, verb, left)).toBe(true)
  }
  await metering.stop()
})
