import { orNull } from '../../engine/answer.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import { list } from '../../engine/lists.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import { operation, presenter, type Module } from '../../engine/module.ts'
import { field, search, type SearchFields } from '../../engine/search.ts'
import type { Params } from '../../wire.gen.ts'
import { planOf } from './plans.ts'
import { claimLookupKey, createPrice, currencyOption, type Price } from './price-create.ts'

function update(ctx: Ctx, id: string, params: Omit<Params['POST /v1/prices/{id}'], 'expand'>): Price {
  const old = ctx.require('price', id)
  if (params.active === false && ctx.get('product', old.product)?.default_price === id) {
    throw invalidRequest('This price cannot be archived because it is the default price of its product.')
  }
  if (params.tax_behavior !== undefined && old.tax_behavior !== 'unspecified' && params.tax_behavior !== old.tax_behavior) {
    throw invalidRequest('The `tax_behavior` of a price cannot be changed once it is set.', { param: 'tax_behavior' })
  }
  const changed = ctx.change(
    'price',
    id,
    {
      active: params.active ?? old.active,
      currency_options: mergedOptions(old, params.currency_options),
      lookup_key:
        params.lookup_key === undefined ? old.lookup_key : claimLookupKey(ctx, params.lookup_key, params.transfer_lookup_key, id),
      metadata: mergeMetadata(old.metadata, params.metadata),
      nickname: params.nickname === undefined ? old.nickname : orNull(params.nickname),
      tax_behavior: params.tax_behavior ?? old.tax_behavior,
    },
    'price.updated',
  )
  if (old.recurring !== null && JSON.stringify(planOf(old)) !== JSON.stringify(planOf(changed))) {
    ctx.emit('plan.updated', planOf(changed), { before: { ...planOf(old) } })
  }
  return changed
}

function mergedOptions(
  old: Price,
  params: Params['POST /v1/prices/{id}']['currency_options'],
): NonNullable<Price['currency_options']> {
  const own = old.currency_options?.[old.currency]
  if (params === '') return own === undefined ? {} : { [old.currency]: own }
  const fresh = Object.entries(params ?? {}).map(([code, option]) => [
    code.toLowerCase(),
    currencyOption(option, `currency_options[${code}]`),
  ])
  return { ...old.currency_options, ...Object.fromEntries(fresh) }
}

type ListParams = Params['GET /v1/prices']

function isListed(price: Price, params: ListParams): boolean {
  const { recurring } = params
  return (
    (params.active === undefined || price.active === params.active) &&
    (params.currency === undefined || price.currency === params.currency.toLowerCase()) &&
    (params.lookup_keys === undefined || (price.lookup_key !== null && params.lookup_keys.includes(price.lookup_key))) &&
    (params.type === undefined || price.type === params.type) &&
    (recurring?.interval === undefined || price.recurring?.interval === recurring.interval) &&
    (recurring?.usage_type === undefined || price.recurring?.usage_type === recurring.usage_type) &&
    (recurring?.meter === undefined || price.recurring?.meter === recurring.meter)
  )
}

const searchFields: SearchFields<Price> = {
  active: field.token((price) => price.active),
  currency: field.token((price) => price.currency),
  lookup_key: field.string((price) => price.lookup_key),
  product: field.string((price) => price.product),
  type: field.token((price) => price.type),
}

const operations = [
  operation({
    on: 'POST /v1/prices',
    takes: [
      'currency',
      'active',
      'billing_scheme',
      'currency_options',
      'custom_unit_amount',
      'lookup_key',
      'metadata',
      'nickname',
      'product',
      'product_data',
      'recurring',
      'tax_behavior',
      'tiers',
      'tiers_mode',
      'transfer_lookup_key',
      'transform_quantity',
      'unit_amount',
      'unit_amount_decimal',
    ],
    run: createPrice,
  }),
  operation({
    on: 'POST /v1/prices/{id}',
    takes: ['active', 'currency_options', 'lookup_key', 'metadata', 'nickname', 'tax_behavior', 'transfer_lookup_key'],
    run: (ctx, params, { id }) => update(ctx, id, params),
  }),
  operation({ on: 'GET /v1/prices/{id}', takes: [], run: (ctx, _params, { id }) => ctx.require('price', id) }),
  operation({
    on: 'GET /v1/prices/search',
    takes: ['query', 'limit', 'page'],
    run: (ctx, params) => search(ctx, 'price', params, { url: '/v1/prices/search', fields: searchFields }),
  }),
  operation({
    on: 'GET /v1/prices',
    takes: [
      'limit',
      'starting_after',
      'ending_before',
      'created',
      'active',
      'currency',
      'lookup_keys',
      'product',
      'recurring',
      'type',
    ],
    run: (ctx, params) =>
      list(ctx, 'price', params, {
        url: '/v1/prices',
        by: ['product', params.product],
        where: (price) => isListed(price, params),
      }),
  }),
]

const presenters = [
  presenter('price', {
    onExpand: {
      tiers: (price) => price.tiers,
      currency_options: (price) => price.currency_options,
    },
  }),
]

export const pricesModule: Module = { operations, presenters }
