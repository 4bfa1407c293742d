import { orNull } from '../../engine/answer.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, missing } from '../../engine/errors.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import type { Stored } from '../../model/stored.ts'
import type { Params } from '../../wire.gen.ts'
import { planOf } from './plans.ts'
import { createProduct } from './product-create.ts'

export type Price = Stored<'price'>
export type CreateParams = Omit<Params['POST /v1/prices'], 'expand'>
type TierParam = NonNullable<CreateParams['tiers']>[number]
type Tier = NonNullable<Price['tiers']>[number]

/** Makes a price and announces it, a recurring one as a plan too, before. `product` must exist, or `product_data` makes one. */
export function createPrice(ctx: Ctx, params: CreateParams): Price {
  const currency = checkedCurrency(params.currency)
  const product = productOf(ctx, params)
  const scheme = params.billing_scheme ?? 'per_unit'
  checkAmounts(params, scheme)
  const price: Price = {
    id: ctx.newId('price', 24),
    object: 'price',
    active: params.active ?? true,
    billing_scheme: scheme,
    created: ctx.now(),
    currency,
    custom_unit_amount: customAmount(params.custom_unit_amount),
    livemode: false,
    lookup_key: claimLookupKey(ctx, params.lookup_key, params.transfer_lookup_key),
    metadata: mergeMetadata({}, params.metadata),
    nickname: orNull(params.nickname),
    product,
    recurring: recurringOf(ctx, params.recurring),
    tax_behavior: params.tax_behavior ?? 'unspecified',
    tiers_mode: params.tiers_mode ?? null,
    transform_quantity: params.transform_quantity ?? null,
    type: params.recurring === undefined ? 'one_time' : 'recurring',
    ...amounts(params),
    ...(params.tiers === undefined ? {} : { tiers: tiersOf(params.tiers, 'tiers') }),
    currency_options: currencyOptions(currency, params),
  }
  ctx.create('price', price)
  if (price.recurring !== null) ctx.emit('plan.created', planOf(price))
  ctx.emit('price.created', price)
  return price
}

/** Three lowercase letters, as every currency is stored. */
export function checkedCurrency(currency: string, param = 'currency'): string {
  const code = currency.toLowerCase()
  if (/^[a-z]{3}$/.test(code)) return code
  throw invalidRequest(
    `Invalid currency: ${currency}. Stripe currently supports these currencies: usd, eur, gbp, jpy, and the other three-letter ISO codes.`,
    { param },
  )
}

function productOf(ctx: Ctx, params: CreateParams): string {
  if (params.product_data !== undefined) {
    if (params.product !== undefined)
      throw invalidRequest('You may only specify one of these parameters: product, product_data.', { param: 'product' })
    return createProduct(ctx, params.product_data).id
  }
  if (params.product === undefined) throw missing('product')
  return ctx.require('product', params.product, 'product').id
}

function checkAmounts(params: CreateParams, scheme: Price['billing_scheme']): void {
  const given = [params.unit_amount, params.unit_amount_decimal, params.custom_unit_amount].filter((value) => value !== undefined)
  if (scheme === 'tiered') {
    if (params.tiers === undefined) throw missing('tiers')
    if (params.tiers_mode === undefined) throw missing('tiers_mode')
    if (given.length > 0)
      throw invalidRequest('You may not specify `unit_amount` when `billing_scheme=tiered`.', { param: 'unit_amount' })
    if (params.transform_quantity !== undefined) {
      throw invalidRequest('You may not specify `transform_quantity` with tiers.', { param: 'transform_quantity' })
    }
    return
  }
  if (params.tiers !== undefined)
    throw invalidRequest('You may only specify `tiers` when `billing_scheme=tiered`.', { param: 'tiers' })
  if (given.length === 0) {
    throw invalidRequest('Prices require an `unit_amount` or `unit_amount_decimal` parameter to be set.', {
      param: 'unit_amount',
      code: 'parameter_missing',
    })
  }
  if (given.length > 1) {
    throw invalidRequest('You may only specify one of these parameters: unit_amount, unit_amount_decimal.', {
      param: 'unit_amount_decimal',
      code: 'parameters_exclusive',
    })
  }
  if (params.custom_unit_amount !== undefined && params.recurring !== undefined) {
    throw invalidRequest('You may not specify `custom_unit_amount` for recurring prices.', { param: 'custom_unit_amount' })
  }
}

/** `unit_amount` and `unit_amount_decimal` of a parameter set: whole cents fill both. At most 12 decimal places. */
function amounts(params: {
  unit_amount?: number
  unit_amount_decimal?: string
}): Pick<Price, 'unit_amount' | 'unit_amount_decimal'> {
  const [amount, decimal] = amountPair(params.unit_amount, params.unit_amount_decimal, 'unit_amount')
  return { unit_amount: amount, unit_amount_decimal: decimal }
}

function amountPair(amount: number | undefined, decimal: string | undefined, param: string): [number | null, string | null] {
  if (amount !== undefined) {
    if (amount < 0) {
      throw invalidRequest('This value must be greater than or equal to 0.', { param, code: 'parameter_invalid_integer' })
    }
    return [amount, String(amount)]
  }
  if (decimal === undefined) return [null, null]
  const text = normalizedDecimal(decimal, `${param}_decimal`)
  return [text.includes('.') ? null : Number(text), text]
}

/** `05.50` → `5.5`; refuses negatives and more than 12 decimal places. */
function normalizedDecimal(decimal: string, param: string): string {
  const [whole = '', fraction = ''] = decimal.split('.')
  if (decimal.startsWith('-')) throw invalidRequest('This value must be greater than or equal to 0.', { param })
  const trimmed = fraction.replace(/0+$/, '')
  if (trimmed.length > 12)
    throw invalidRequest(`Invalid decimal: ${decimal}; must contain at maximum twelve decimal places.`, { param })
  const integer = whole.replace(/^0+(?=\d)/, '') || '0'
  return trimmed === '' ? integer : `${integer}.${trimmed}`
}

/** Checks tiers as Stripe does: ascending, the last one open. */
function tiersOf(params: readonly TierParam[], param: string): Tier[] {
  if (params.length === 0) throw missing(param)
  let above = 0
  return params.map((tier, index) => {
    const isLast = index === params.length - 1
    const at = `${param}[${index}]`
    if (isLast !== (tier.up_to === 'inf')) {
      throw invalidRequest('The last tier must have `up_to` set to `inf`, and no other tier may.', { param: `${at}[up_to]` })
    }
    if (typeof tier.up_to === 'number') {
      if (tier.up_to <= above) throw invalidRequest('The `up_to` of the tiers must be ascending.', { param: `${at}[up_to]` })
      above = tier.up_to
    }
    const [flat, flatDecimal] = amountPair(tier.flat_amount, tier.flat_amount_decimal, `${at}[flat_amount]`)
    const [unit, unitDecimal] = amountPair(tier.unit_amount, tier.unit_amount_decimal, `${at}[unit_amount]`)
    if (flatDecimal === null && unitDecimal === null) {
      throw invalidRequest('Each tier must have a `unit_amount` or a `flat_amount`.', { param: at })
    }
    return {
      flat_amount: flat,
      flat_amount_decimal: flatDecimal,
      unit_amount: unit,
      unit_amount_decimal: unitDecimal,
      up_to: tier.up_to === 'inf' ? null : tier.up_to,
    }
  })
}

function customAmount(param: CreateParams['custom_unit_amount']): Price['custom_unit_amount'] {
  if (param === undefined || !param.enabled) return null
  return { maximum: param.maximum ?? null, minimum: param.minimum ?? null, preset: param.preset ?? null }
}

const INTERVAL_LIMITS = { day: 1095, week: 156, month: 36, year: 3 }

function recurringOf(ctx: Ctx, param: CreateParams['recurring']): Price['recurring'] {
  if (param === undefined) return null
  const count = param.interval_count ?? 1
  if (count < 1 || count > INTERVAL_LIMITS[param.interval]) {
    throw invalidRequest('The maximum billing interval is three years.', { param: 'recurring[interval_count]' })
  }
  const usage = param.usage_type ?? 'licensed'
  if (param.meter !== undefined) {
    ctx.require('billing.meter', param.meter, 'recurring[meter]')
    if (usage !== 'metered') {
      throw invalidRequest('A price with a meter must have `usage_type=metered`.', { param: 'recurring[usage_type]' })
    }
  } else if (usage === 'metered') {
    throw invalidRequest('Metered prices must be backed by meters. Set `recurring[meter]`.', {
      param: 'recurring[meter]',
      code: 'parameter_missing',
    })
  }
  return {
    interval: param.interval,
    interval_count: count,
    meter: param.meter ?? null,
    trial_period_days: param.trial_period_days ?? null,
    usage_type: usage,
  }
}

/** What a price costs in each of its currencies; its own currency is always among them. */
export function currencyOptions(currency: string, params: CreateParams): NonNullable<Price['currency_options']> {
  const options: NonNullable<Price['currency_options']> = { [currency]: currencyOption(params, 'currency_options') }
  for (const [code, option] of Object.entries(params.currency_options ?? {})) {
    const other = checkedCurrency(code, 'currency_options')
    if (other === currency)
      throw invalidRequest(`\`currency_options\` must not hold the price's own currency: ${code}`, { param: 'currency_options' })
    options[other] = currencyOption(option, `currency_options[${code}]`)
  }
  return options
}

type CurrencyOptionParam = NonNullable<CreateParams['currency_options']>[string]

/** One entry of `currency_options`. */
export function currencyOption(param: CurrencyOptionParam, at: string): NonNullable<Price['currency_options']>[string] {
  return {
    custom_unit_amount: customAmount(param.custom_unit_amount),
    tax_behavior: param.tax_behavior ?? 'unspecified',
    ...amounts(param),
    ...(param.tiers === undefined ? {} : { tiers: tiersOf(param.tiers, `${at}[tiers]`) }),
  }
}

/** Takes a lookup key; one that another active price holds moves only with `transfer_lookup_key`. */
export function claimLookupKey(ctx: Ctx, key: string | undefined, transfer: boolean | undefined, owner?: string): string | null {
  if (key === undefined || key === '') return null
  const holder = ctx.store.lastBy('price', 'lookup_key', key)
  if (holder === undefined || holder.id === owner) return key
  if (transfer !== true) {
    throw invalidRequest(`A price (\`${holder.id}\`) already uses that lookup key.`, {
      param: 'lookup_key',
      code: 'resource_already_exists',
    })
  }
  ctx.change('price', holder.id, { lookup_key: null }, 'price.updated')
  return key
}
