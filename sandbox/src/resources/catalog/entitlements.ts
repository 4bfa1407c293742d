import { entitlesInStatus } from '../../billing/inferred.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, noSuch } from '../../engine/errors.ts'
import { list, pageOf, wholeList } from '../../engine/lists.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import { operation, presenter, reaction, type Module } from '../../engine/module.ts'
import type { Stored } from '../../model/stored.ts'

type Feature = Stored<'entitlements.feature'>
type Entitlement = Stored<'entitlements.active_entitlement'>

function createFeature(
  ctx: Ctx,
  params: { lookup_key: string; name: string; metadata?: Parameters<typeof mergeMetadata>[1] },
): Feature {
  if (ctx.store.lastBy('entitlements.feature', 'lookup_key', params.lookup_key) !== undefined) {
    throw invalidRequest(`There is already a feature with the lookup key ${params.lookup_key}.`, {
      param: 'lookup_key',
      code: 'resource_already_exists',
    })
  }
  return ctx.create('entitlements.feature', {
    id: `feat_test_${ctx.token(24)}`,
    object: 'entitlements.feature',
    active: true,
    livemode: false,
    lookup_key: params.lookup_key,
    metadata: mergeMetadata({}, params.metadata),
    name: params.name,
  })
}

function attach(ctx: Ctx, product: string, featureId: string): Stored<'product_feature'> {
  ctx.require('product', product)
  const feature = ctx.require('entitlements.feature', featureId, 'entitlement_feature')
  if (!feature.active) throw invalidRequest('This feature is archived.', { param: 'entitlement_feature' })
  if (ctx.store.by('product_feature', 'product', product).some((attached) => attached.entitlement_feature === feature.id)) {
    throw invalidRequest('This feature is attached to the product already.', {
      param: 'entitlement_feature',
      code: 'resource_already_exists',
    })
  }
  return ctx.create('product_feature', {
    id: `prodft_test_${ctx.token(24)}`,
    object: 'product_feature',
    entitlement_feature: feature.id,
    livemode: false,
    _: { product },
  })
}

function requireAttached(ctx: Ctx, product: string, id: string): Stored<'product_feature'> {
  const attached = ctx.require('product_feature', id)
  if (attached._.product !== product) throw noSuch('product_feature', id)
  return attached
}

/** The features that a customer's subscriptions entitle to, in the order in which they came. */
function featuresOf(ctx: Ctx, customer: string): Set<string> {
  const running = ctx.store
    .by('subscription', 'customer', customer)
    .filter((subscription) => entitlesInStatus(subscription.status))
  const prices = running.flatMap((subscription) => subscription._.items.map((item) => item.price))
  const products = prices.flatMap((price) => ctx.get('price', price)?.product ?? [])
  return new Set(
    products.flatMap((product) => ctx.store.by('product_feature', 'product', product).map((each) => each.entitlement_feature)),
  )
}

/** Makes a customer's entitlements what its subscriptions say, and announces the summary when they changed. */
function entitle(ctx: Ctx, customer: string): void {
  const old = ctx.store.by('entitlements.active_entitlement', 'customer', customer)
  const features = featuresOf(ctx, customer)
  const lost = old.filter((entitlement) => !features.has(entitlement.feature))
  const held = new Set(old.map((entitlement) => entitlement.feature))
  const gained = [...features].filter((feature) => !held.has(feature))
  if (lost.length === 0 && gained.length === 0) return
  const before = summaryOf(ctx, customer, old)
  for (const { id } of lost) ctx.delete('entitlements.active_entitlement', id)
  for (const feature of gained) {
    ctx.create('entitlements.active_entitlement', {
      id: `ent_test_${ctx.token(24)}`,
      object: 'entitlements.active_entitlement',
      feature,
      livemode: false,
      lookup_key: ctx.require('entitlements.feature', feature).lookup_key,
      _: { customer },
    })
  }
  const after = summaryOf(ctx, customer, ctx.store.by('entitlements.active_entitlement', 'customer', customer))
  ctx.emit('entitlements.active_entitlement_summary.updated', after, { before, customer })
}

function summaryOf(ctx: Ctx, customer: string, entitlements: readonly Entitlement[]): Record<string, unknown> {
  return {
    object: 'entitlements.active_entitlement_summary',
    customer,
    entitlements: wholeList(
      entitlements.map((entitlement) => ctx.present(entitlement)),
      `/v1/entitlements/active_entitlements?customer=${customer}`,
    ),
    livemode: false,
  }
}

const featureOperations = [
  operation({ on: 'POST /v1/entitlements/features', takes: ['lookup_key', 'name', 'metadata'], run: createFeature }),
  operation({
    on: 'POST /v1/entitlements/features/{id}',
    takes: ['active', 'metadata', 'name'],
    run: (ctx, params, { id }) => {
      const old = ctx.require('entitlements.feature', id)
      const metadata = mergeMetadata(old.metadata, params.metadata)
      return ctx.update('entitlements.feature', id, {
        active: params.active ?? old.active,
        metadata,
        name: params.name ?? old.name,
      })
    },
  }),
  operation({
    on: 'GET /v1/entitlements/features/{id}',
    takes: [],
    run: (ctx, _params, { id }) => ctx.require('entitlements.feature', id),
  }),
  operation({
    on: 'GET /v1/entitlements/features',
    takes: ['limit', 'starting_after', 'ending_before', 'archived', 'lookup_key'],
    run: (ctx, params) =>
      list(ctx, 'entitlements.feature', params, {
        url: '/v1/entitlements/features',
        by: ['lookup_key', params.lookup_key],
        where: (feature) => feature.active !== (params.archived ?? false),
      }),
  }),
]

const entitlementOperations = [
  operation({
    on: 'GET /v1/entitlements/active_entitlements',
    takes: ['limit', 'starting_after', 'ending_before', 'customer'],
    run: (ctx, params) => {
      const customer = ctx.require('customer', params.customer, 'customer')
      const entitlements = ctx.store.by('entitlements.active_entitlement', 'customer', customer.id)
      return pageOf(entitlements, params, '/v1/entitlements/active_entitlements')
    },
  }),
  operation({
    on: 'GET /v1/entitlements/active_entitlements/{id}',
    takes: [],
    run: (ctx, _params, { id }) => ctx.require('entitlements.active_entitlement', id),
  }),
  operation({
    on: 'POST /v1/products/{id}/features',
    takes: ['entitlement_feature'],
    run: (ctx, params, { id }) => attach(ctx, id, params.entitlement_feature),
  }),
  operation({
    on: 'GET /v1/products/{id}/features',
    takes: ['limit', 'starting_after', 'ending_before'],
    run: (ctx, params, { id }) => {
      ctx.require('product', id)
      return list(ctx, 'product_feature', params, { url: `/v1/products/${id}/features`, by: ['product', id] })
    },
  }),
  operation({
    on: 'GET /v1/products/{productId}/features/{id}',
    takes: [],
    run: (ctx, _params, { productId, id }) => requireAttached(ctx, productId, id),
  }),
  operation({
    on: 'DELETE /v1/products/{productId}/features/{id}',
    takes: [],
    run: (ctx, _params, { productId, id }) => {
      requireAttached(ctx, productId, id)
      ctx.delete('product_feature', id)
      return { id, object: 'product_feature', deleted: true }
    },
  }),
]

const presenters = [
  presenter('product_feature', {
    compose: (attached, ctx) => ({
      entitlement_feature: ctx.present(ctx.require('entitlements.feature', attached.entitlement_feature)),
    }),
  }),
  presenter('entitlements.active_entitlement', {}),
]

const reactions = [
  reaction('subscription', (ctx, { before, after }) => {
    const customer = (after ?? before)?.customer
    if (customer === undefined || ctx.store.count('product_feature') === 0) return
    if (before?.status === after?.status && before?._.items === after?._.items) return
    entitle(ctx, customer)
  }),
  reaction('product_feature', (ctx, { before, after }) => {
    const product = (after ?? before)?._.product
    if (product === undefined) return
    const prices = ctx.store.by('price', 'product', product)
    const subscriptions = prices.flatMap((price) => ctx.store.by('subscription', 'price', price.id))
    for (const customer of new Set(subscriptions.map((subscription) => subscription.customer))) entitle(ctx, customer)
  }),
]

export const entitlementsModule: Module = { operations: [...featureOperations, ...entitlementOperations], presenters, reactions }
