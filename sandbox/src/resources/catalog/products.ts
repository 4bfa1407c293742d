import { updated } from '../../engine/answer.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import { list } from '../../engine/lists.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import { operation, type Module } from '../../engine/module.ts'
import { field, search, type SearchFields } from '../../engine/search.ts'
import type { Params } from '../../wire.gen.ts'
import { createPrice } from './price-create.ts'
import { createProduct, taxDetails, type Product } from './product-create.ts'

type CreateParams = Params['POST /v1/products']

const CREATE_TAKES = [
  'name',
  'active',
  'default_price_data',
  'description',
  'id',
  'images',
  'marketing_features',
  'metadata',
  'package_dimensions',
  'shippable',
  'statement_descriptor',
  'tax_code',
  'tax_details',
  'type',
  'unit_label',
  'url',
] as const

function create(ctx: Ctx, params: Pick<CreateParams, (typeof CREATE_TAKES)[number]>): Product {
  const { default_price_data: priceData, ...rest } = params
  const product = createProduct(ctx, rest)
  if (priceData === undefined) return product
  const price = createPrice(ctx, { ...priceData, product: product.id })
  return ctx.change('product', product.id, { default_price: price.id }, 'product.updated')
}

function update(ctx: Ctx, id: string, params: Omit<Params['POST /v1/products/{id}'], 'expand'>): Product {
  const old = ctx.require('product', id)
  if (params.default_price !== undefined) requireOwnPrice(ctx, id, params.default_price)
  return ctx.change(
    'product',
    id,
    {
      active: params.active ?? old.active,
      default_price: updated(old.default_price ?? null, params.default_price),
      description: updated(old.description, params.description),
      images: updated(old.images, params.images) ?? [],
      marketing_features: updated(old.marketing_features, params.marketing_features) ?? [],
      metadata: mergeMetadata(old.metadata, params.metadata),
      name: params.name ?? old.name,
      package_dimensions: updated(old.package_dimensions, params.package_dimensions),
      shippable: params.shippable ?? old.shippable,
      statement_descriptor: updated(old.statement_descriptor ?? null, params.statement_descriptor),
      tax_code: updated(old.tax_code ?? null, params.tax_code),
      tax_details:
        params.tax_details === undefined ? old.tax_details : params.tax_details === '' ? null : taxDetails(params.tax_details),
      unit_label: updated(old.unit_label ?? null, params.unit_label),
      updated: ctx.now(),
      url: updated(old.url, params.url),
    },
    'product.updated',
  )
}

function requireOwnPrice(ctx: Ctx, product: string, id: string): void {
  const price = ctx.require('price', id, 'default_price')
  if (price.product === product) return
  throw invalidRequest(`The price specified is for a different product: ${id}`, { param: 'default_price' })
}

function remove(ctx: Ctx, id: string): object {
  const product = ctx.require('product', id)
  if (ctx.store.lastBy('price', 'product', id) !== undefined) {
    throw invalidRequest('This product cannot be deleted because it has one or more user-created prices.')
  }
  ctx.delete('product', id)
  ctx.emit('product.deleted', product)
  return { id, object: 'product', deleted: true }
}

const searchFields: SearchFields<Product> = {
  active: field.token((product) => product.active),
  created: field.numeric((product) => product.created),
  description: field.string((product) => product.description),
  name: field.string((product) => product.name),
  shippable: field.token((product) => product.shippable),
  url: field.string((product) => product.url),
}

const operations = [
  operation({ on: 'POST /v1/products', takes: CREATE_TAKES, run: create }),
  operation({
    on: 'POST /v1/products/{id}',
    takes: [
      'active',
      'default_price',
      'description',
      'images',
      'marketing_features',
      'metadata',
      'name',
      'package_dimensions',
      'shippable',
      'statement_descriptor',
      'tax_code',
      'tax_details',
      'unit_label',
      'url',
    ],
    run: (ctx, params, { id }) => update(ctx, id, params),
  }),
  operation({ on: 'GET /v1/products/{id}', takes: [], run: (ctx, _params, { id }) => ctx.require('product', id) }),
  operation({ on: 'DELETE /v1/products/{id}', takes: [], run: (ctx, _params, { id }) => remove(ctx, id) }),
  operation({
    on: 'GET /v1/products/search',
    takes: ['query', 'limit', 'page'],
    run: (ctx, params) => search(ctx, 'product', params, { url: '/v1/products/search', fields: searchFields }),
  }),
  operation({
    on: 'GET /v1/products',
    takes: ['limit', 'starting_after', 'ending_before', 'created', 'active', 'ids', 'shippable', 'type', 'url'],
    run: (ctx, params) =>
      list(ctx, 'product', params, {
        url: '/v1/products',
        where: (product) =>
          (params.active === undefined || product.active === params.active) &&
          (params.ids === undefined || params.ids.includes(product.id)) &&
          (params.shippable === undefined || product.shippable === params.shippable) &&
          (params.type === undefined || product.type === params.type) &&
          (params.url === undefined || product.url === params.url),
      }),
  }),
]

export const productsModule: Module = { operations }
