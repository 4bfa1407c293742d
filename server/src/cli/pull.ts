import type { PriceSnapshot, ProductSnapshot } from '../stripe/gateway/gateway.ts'
import { PLAN_METADATA } from '../stripe/push/former-prices.ts'

/** What `tollgate pull` found: the text of a billing.config.ts, and what it could not take over. */
export type Pulled = { readonly text: string; readonly plans: number; readonly skipped: readonly string[] }

type PulledPrice = { readonly interval: 'monthly' | 'yearly'; readonly price: PriceSnapshot; readonly variable: string }
type PulledPlan = { readonly key: string; readonly product: ProductSnapshot; readonly prices: readonly PulledPrice[] }

/** As what `tollgate push` makes the product of an add-on. */
const ADD_ON = 'add_on:'
/** The plan of who has not subscribed. */
const DEFAULT = 'free'

/**
 * Writes the products and recurring prices of a Stripe account as a catalog. Existing prices go on being used: each is named by
 * a variable. Meters and allowances are not at Stripe, so there are none, and neither are prices of what meters count. What sells beside a plan
 * is a product as a plan is: only those that `tollgate push` made are known for add-ons. Pure.
 */
export function catalogOfStripe(products: readonly ProductSnapshot[], all: readonly PriceSnapshot[]): Pulled {
  const prices = all.filter(({ active }) => active)
  const skipped: string[] = []
  const currencies = new Map<string, number>()
  for (const { currency } of prices) currencies.set(currency, (currencies.get(currency) ?? 0) + 1)
  const currency = [...currencies].sort((a, b) => b[1] - a[1])[0]?.[0] ?? 'usd'
  // Without a product that was pushed as the plan "free", there is one that costs nothing.
  const isFreeSold = products.some(({ active, metadata }) => active && metadata[PLAN_METADATA] === DEFAULT)
  const taken = new Set<string>(isFreeSold ? [] : [DEFAULT])
  const plans = products.flatMap((product): PulledPlan[] => {
    if (!product.active) return []
    const key = keyOf(product, taken)
    const found = pricesOf(
      key,
      prices.filter(({ productId }) => productId === product.id),
      { currency, skipped },
    )
    if (found.length === 0) {
      skipped.push(`${product.id} (${product.name}): no monthly or yearly price in ${currency}.`)
      return []
    }
    taken.add(key)
    return [{ key, product, prices: found }]
  })
  return { text: write(currency, plans), plans: plans.length, skipped }
}

function pricesOf(
  key: string,
  prices: readonly PriceSnapshot[],
  { currency, skipped }: { currency: string; skipped: string[] },
): PulledPrice[] {
  const found: PulledPrice[] = []
  for (const price of prices) {
    const interval = price.intervalCount === 1 ? INTERVALS[price.interval ?? ''] : undefined
    if (price.meterId !== null) {
      skipped.push(
        `${price.id}: a price of what the meter ${price.meterId} counts; it belongs into a plan's allowance, as its overage.`,
      )
      continue
    }
    const fits = price.currency === currency && price.unitAmountMinor !== null
    if (interval === undefined || !fits || found.some((each) => each.interval === interval)) {
      skipped.push(`${price.id}: not the first monthly or yearly price of "${key}" in ${currency} with a fixed amount.`)
      continue
    }
    found.push({ interval, price, variable: `STRIPE_PRICE_${key.replaceAll(/\W/g, '_')}_${interval}`.toUpperCase() })
  }
  return found
}

const INTERVALS: Readonly<Record<string, PulledPrice['interval']>> = { month: 'monthly', year: 'yearly' }

/** The plan that Tollgate wrote onto the product; else a name made of the product's. */
function keyOf({ id, name, metadata }: ProductSnapshot, taken: ReadonlySet<string>): string {
  const made = name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '_')
    .replaceAll(/^[^a-z]+|_+$/g, '')
    .slice(0, 40)
  const key = metadata[PLAN_METADATA] ?? (made === '' ? 'plan' : made)
  return taken.has(key) ? `${key}_${id.replaceAll(/[^a-zA-Z0-9]/g, '').toLowerCase()}`.slice(0, 63) : key
}

function write(currency: string, plans: readonly PulledPlan[]): string {
  const variables = plans.flatMap(({ prices }) => prices.map(({ variable, price }) => `//   ${variable}=${price.id}\n`))
  const isAddOn = ({ key }: PulledPlan): boolean => key.startsWith(ADD_ON)
  const written = plans
    .filter((plan) => !isAddOn(plan))
    .map(
      ({ key, product, prices }) => `    ${key}: {
      name: ${quote(product.name)},${product.description === null ? '' : `\n      description: ${quote(product.description)},`}
${writePrices(prices)}      allowances: {},
    },
`,
    )
  const addOns = plans.filter(isAddOn).map(
    ({ key, product, prices }) => `    ${key.slice(ADD_ON.length)}: {
      name: ${quote(product.name)},
${writePrices(prices)}    },
`,
  )
  const unmarked = plans.filter(({ product }) => product.metadata[PLAN_METADATA] === undefined).map(({ key }) => key)
  const hint = `// Stripe does not say which of these are add-ons (${unmarked.join(', ')}): move such ones from plans to addOns.\n`
  return `import { defineBilling } from '@tollgate/server/catalog'

// Made from the products and prices at Stripe. So that these prices go on being used, set:
${variables.join('')}${unmarked.length === 0 ? '' : hint}export default defineBilling({
  currency: ${quote(currency)},
  meters: {},
  plans: {
${plans.some(({ key }) => key === DEFAULT) ? '' : `    ${DEFAULT}: { name: 'Free', allowances: {} },\n`}${written.join('')}  },
${addOns.length === 0 ? '' : `  addOns: {\n${addOns.join('')}  },\n`}  defaultPlan: '${DEFAULT}',
})
`
}

function writePrices(prices: readonly PulledPrice[]): string {
  const lines = prices.map(
    ({ interval, price, variable }) =>
      `        ${interval}: { amountMinor: ${price.unitAmountMinor}, priceVariable: '${variable}' },\n`,
  )
  return `      prices: {\n${lines.join('')}      },\n`
}

/** A TypeScript string: what JSON escapes is escaped, in single quotes. */
function quote(text: string): string {
  return `'${JSON.stringify(text)
    .slice(1, -1)
    .replaceAll('\\"', '"')
    .replaceAll("'", String.raw`\'`)}'`
}
