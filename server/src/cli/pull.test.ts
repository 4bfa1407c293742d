import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { importCatalogDefinition } from '../catalog/registry.ts'
import type { PriceSnapshot, ProductSnapshot } from '../stripe/gateway/gateway.ts'
import { PLAN_METADATA } from '../stripe/push/push-plan.ts'
import { catalogOfStripe } from './pull.ts'

const product = (id: string, name: string, key?: string): ProductSnapshot => ({
  id,
  name,
  description: null,
  active: true,
  metadata: key === undefined ? {} : { [PLAN_METADATA]: key },
})

const price = (id: string, productId: string, over: Partial<PriceSnapshot> = {}): PriceSnapshot => ({
  id,
  productId,
  active: true,
  currency: 'usd',
  unitAmountMinor: 500,
  interval: 'month',
  intervalCount: 1,
  lookupKey: null,
  meterId: null,
  unitAmountDecimal: '500',
  metadata: {},
  ...over,
})

test('what was pushed with an add-on and a price of use is pulled as a file that loads, the add-on as an add-on', async () => {
  const { text, plans, skipped } = catalogOfStripe(
    [product('prod_1', 'Pro', 'pro'), product('prod_2', 'Pack', 'add_on:pack'), product('prod_3', 'API calls')],
    [
      price('price_1', 'prod_1'),
      price('price_2', 'prod_2', { interval: 'year' }),
      price('price_3', 'prod_3', { meterId: 'mtr_1' }),
    ],
  )
  expect(text).toContain('STRIPE_PRICE_ADD_ON_PACK_YEARLY=price_2\n')
  expect(plans).toBe(2)
  expect(skipped.join('\n')).toContain('price_3: a price of what the meter mtr_1 counts')
  const folder = mkdtempSync(join(tmpdir(), 'tollgate-pull-'))
  try {
    const file = join(folder, 'pulled.config.ts')
    writeFileSync(file, text.replace("'@tollgate/server/catalog'", `'${join(process.cwd(), 'server/src/catalog/define.ts')}'`))
    const definition = await importCatalogDefinition(file)
    expect(Object.keys(definition.plans)).toEqual(['free', 'pro'])
    expect(definition.addOns).toEqual({
      pack: { name: 'Pack', prices: { yearly: { amountMinor: 500, priceVariable: 'STRIPE_PRICE_ADD_ON_PACK_YEARLY' } } },
    })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})
