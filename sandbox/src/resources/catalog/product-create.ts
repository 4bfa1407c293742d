import { orNull } from '../../engine/answer.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import type { Stored } from '../../model/stored.ts'
import type { Params } from '../../wire.gen.ts'

export type Product = Stored<'product'>
type CreateParams = Params['POST /v1/products']

/** Makes a product; a given id must be free. */
export function createProduct(ctx: Ctx, params: Omit<CreateParams, 'expand' | 'default_price_data'>): Product {
  const id = params.id ?? ctx.newId('prod')
  if (ctx.get('product', id) !== undefined) {
    throw invalidRequest(`Product already exists: ${id}`, { param: 'id', code: 'resource_already_exists' })
  }
  const now = ctx.now()
  const product = ctx.create('product', {
    id,
    object: 'product',
    active: params.active ?? true,
    created: now,
    default_price: null,
    description: orNull(params.description),
    images: params.images ?? [],
    livemode: false,
    marketing_features: params.marketing_features ?? [],
    metadata: mergeMetadata({}, params.metadata),
    name: params.name,
    package_dimensions: params.package_dimensions ?? null,
    shippable: params.shippable ?? null,
    statement_descriptor: orNull(params.statement_descriptor),
    tax_code: params.tax_code ?? null,
    tax_details: taxDetails(params.tax_details),
    type: params.type ?? 'service',
    unit_label: orNull(params.unit_label),
    updated: now,
    url: orNull(params.url),
  })
  ctx.emit('product.created', product)
  return product
}

/** `tax_details` as stored. */
export function taxDetails(param: CreateParams['tax_details']): Product['tax_details'] {
  if (param === undefined) return null
  return { performance_location: param.performance_location ?? null, tax_code: param.tax_code || null }
}
