import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { importCatalogDefinition } from '../catalog/registry.ts'
import type { PriceSnapshot, ProductSnapshot } from '../stripe/gateway/gateway.ts'
import { PLAN_METADATA } from '../stripe/push/former-prices.ts'
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

test('what was not pushed by Tollgate is a plan, and the file says that an add-on among them has to be moved', () => {
  const { text } = catalogOfStripe(
    [product('prod_1', 'Pro'), product('prod_2', 'Extra seats')],
    [price('p_1', 'prod_1'), price('p_2', 'prod_2')],
  )
  expect(text).toMatch(/ {2}plans: \{[^]*pro: \{[^]*extra_seats: \{/)
  expect(text).toContain(
    '// Stripe does not say which of these are add-ons (pro, extra_seats): move such ones from plans to addOns.',
  )
  const pushed = catalogOfStripe([product('prod_1', 'Pro', 'pro')], [price('p_1', 'prod_1')])
  expect(pushed.text).not.toContain('does not say')
})

test('a price that is archived is as none', () => {
  const archived = { active: false, currency: 'eur' }
  const prices = [price('p_1', 'prod_1', archived), price('p_2', 'prod_1', archived), price('p_3', 'prod_1')]
  const { text, skipped } = catalogOfStripe([product('prod_1', 'Pro')], prices)
  expect(skipped).toEqual([])
  expect(text).toContain("currency: 'usd'")
  expect(text).toContain('STRIPE_PRICE_PRO_MONTHLY=p_3')
})
