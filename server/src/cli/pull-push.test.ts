import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { startSandbox } from '../../../sandbox/src/index.ts'
import { testBilling } from '../../test/billing.ts'
import { createCatalogRegistry, importCatalogDefinition, storeCatalogVersion } from '../catalog/registry.ts'
import type { CatalogDefinition } from '../catalog/schema.ts'
import type { BillingContext } from '../stripe/context.ts'
import { createStripeClient } from '../stripe/gateway/client.ts'
import { pushCatalog } from '../stripe/push/push.ts'
import { catalogOfStripe } from './pull.ts'

const billing = testBilling({ webhooks: false })
const folder = mkdtempSync(join(tmpdir(), 'tollgate-pull-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** A server of a catalog at a Stripe. */
async function serverOf(definition: CatalogDefinition, gateway: BillingContext['gateway']): Promise<BillingContext> {
  const { db, clock } = billing.context
  return billing.with({ gateway, catalogs: createCatalogRegistry(db, await storeCatalogVersion(db, definition, clock.now())) })
}

/** What `tollgate pull` writes, loaded; and the variables that its first lines name. */
async function pull(name: string, gateway: NonNullable<BillingContext['gateway']>) {
  const { text } = catalogOfStripe(await gateway.reads.listProducts(), await gateway.reads.listPrices())
  const path = join(folder, `${name}.config.ts`)
  writeFileSync(path, text.replace("'@tollgate/server/catalog'", `'${join(process.cwd(), 'server/src/catalog/define.ts')}'`))
  const variables = Object.fromEntries([...text.matchAll(/^\/\/ {3}(\w+)=(\w+)$/gm)].map(([, variable, id]) => [variable!, id!]))
  return { definition: await importCatalogDefinition(path, variables), variables, text }
}

const catalogs = await Promise.all(
  readdirSync('examples').map(async (name) => ({
    name,
    definition: await importCatalogDefinition(`examples/${name}/billing.config.ts`),
  })),
)
const prices = { monthly: { amountMinor: 0 } }
const odd: CatalogDefinition = {
  currency: 'eur',
  meters: {},
  plans: {
    free: { name: 'Nothing', description: 'What it’s for: "all"', prices, allowances: {} },
    pro: { name: 'Pro', prices: { monthly: { amountMinor: 100 }, yearly: { amountMinor: 900 } }, allowances: {} },
  },
  addOns: { pack: { name: 'Pack', prices } },
  defaultPlan: 'pro',
}

test.each([...catalogs, { name: 'odd', definition: odd }])(
  'the catalog $name pushed and pulled is at Stripe as it is, with the variables that were written and without',
  async ({ name, definition }) => {
    const sandbox = await startSandbox({ seed: name, webhooks: [] })
    try {
      const { host, port, protocol } = sandbox
      const endpoint = { host, port, protocol }
      const gateway = createStripeClient({
        apiKey: 'sk_test_tollgate',
        endpoint,
        callsPerSecond: 1_000,
        log: billing.context.log,
      })
      await pushCatalog(await serverOf(definition, gateway), { variables: {} })
      const pulled = await pull(name, gateway)
      const context = await serverOf(pulled.definition, gateway)
      for (const variables of [{}, pulled.variables]) {
        expect((await pushCatalog(context, { variables, dryRun: true })).lines.filter((line) => !line.startsWith('='))).toEqual(
          [],
        )
        expect(await pushCatalog(context, { variables, dryRun: true })).toMatchObject({ changed: 0 })
      }
    } finally {
      await sandbox.stop()
    }
  },
)
