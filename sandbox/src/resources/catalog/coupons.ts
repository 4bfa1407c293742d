import { defined, orNull } from '../../engine/answer.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, missing, noSuch } from '../../engine/errors.ts'
import { list } from '../../engine/lists.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import { operation, presenter, type Module } from '../../engine/module.ts'
import type { Stored } from '../../model/stored.ts'
import type { Params } from '../../wire.gen.ts'
import { isCouponValid } from './discount-rules.ts'
import { checkedCurrency } from './price-create.ts'

type Coupon = Stored<'coupon'>
type CreateParams = Omit<Params['POST /v1/coupons'], 'expand'>

function create(ctx: Ctx, params: CreateParams): Coupon {
  checkReduction(params)
  const duration = params.duration ?? 'once'
  if (duration === 'repeating' && params.duration_in_months === undefined) throw missing('duration_in_months')
  const id = params.id ?? ctx.token(8)
  if (ctx.get('coupon', id) !== undefined) {
    throw invalidRequest(`Coupon already exists: ${id}`, { param: 'id', code: 'resource_already_exists' })
  }
  for (const product of params.applies_to?.products ?? []) ctx.require('product', product, 'applies_to[products]')
  const coupon: Coupon = defined({
    id,
    object: 'coupon' as const,
    amount_off: params.amount_off ?? null,
    applies_to: params.applies_to?.products === undefined ? undefined : { products: params.applies_to.products },
    created: ctx.now(),
    currency: params.currency === undefined ? null : checkedCurrency(params.currency),
    currency_options: params.currency_options,
    duration,
    duration_in_months: duration === 'repeating' ? (params.duration_in_months ?? null) : null,
    livemode: false,
    max_redemptions: params.max_redemptions ?? null,
    metadata: mergeMetadata({}, params.metadata),
    name: orNull(params.name),
    percent_off: params.percent_off ?? null,
    redeem_by: params.redeem_by ?? null,
    times_redeemed: 0,
  })
  return ctx.create('coupon', coupon, 'coupon.created')
}

function checkReduction(params: CreateParams): void {
  if (params.percent_off === undefined && params.amount_off === undefined) {
    throw invalidRequest('You must pass either `percent_off` or `amount_off`.', {
      param: 'percent_off',
      code: 'parameter_missing',
    })
  }
  if (params.percent_off !== undefined && params.amount_off !== undefined) {
    throw invalidRequest('You may only specify one of these parameters: amount_off, percent_off.', { param: 'amount_off' })
  }
  if (params.amount_off !== undefined && params.currency === undefined) throw missing('currency')
  if (params.amount_off !== undefined && params.amount_off <= 0) {
    throw invalidRequest('Invalid positive integer', { param: 'amount_off', code: 'parameter_invalid_integer' })
  }
  if (params.percent_off !== undefined && (params.percent_off <= 0 || params.percent_off > 100)) {
    throw invalidRequest('Invalid percent_off: must be greater than 0 and at most 100', { param: 'percent_off' })
  }
}

function update(ctx: Ctx, id: string, params: Omit<Params['POST /v1/coupons/{id}'], 'expand'>): Coupon {
  const old = ctx.require('coupon', id)
  return ctx.change(
    'coupon',
    id,
    {
      metadata: mergeMetadata(old.metadata, params.metadata),
      name: params.name === undefined ? old.name : orNull(params.name),
      ...(params.currency_options === undefined
        ? {}
        : { currency_options: { ...old.currency_options, ...params.currency_options } }),
    },
    'coupon.updated',
  )
}

/** A deleted coupon is redeemed no more; discounts that were made from it go on, so it stays readable for them. */
function remove(ctx: Ctx, id: string): object {
  const coupon = ctx.require('coupon', id)
  const spent = ctx.update('coupon', id, { max_redemptions: coupon.max_redemptions ?? coupon.times_redeemed })
  const deleted = { id, object: 'coupon', deleted: true } as const
  ctx.emit('coupon.deleted', spent)
  ctx.create('deleted_coupon', deleted)
  return deleted
}

const operations = [
  operation({
    on: 'POST /v1/coupons',
    takes: [
      'amount_off',
      'applies_to',
      'currency',
      'currency_options',
      'duration',
      'duration_in_months',
      'id',
      'max_redemptions',
      'metadata',
      'name',
      'percent_off',
      'redeem_by',
    ],
    run: create,
  }),
  operation({
    on: 'POST /v1/coupons/{id}',
    takes: ['currency_options', 'metadata', 'name'],
    run: (ctx, params, { id }) => update(ctx, requireLive(ctx, id), params),
  }),
  operation({
    on: 'GET /v1/coupons/{id}',
    takes: [],
    run: (ctx, _params, { id }) => ctx.require('coupon', requireLive(ctx, id)),
  }),
  operation({ on: 'DELETE /v1/coupons/{id}', takes: [], run: (ctx, _params, { id }) => remove(ctx, requireLive(ctx, id)) }),
  operation({
    on: 'GET /v1/coupons',
    takes: ['limit', 'starting_after', 'ending_before', 'created'],
    run: (ctx, params) =>
      list(ctx, 'coupon', params, { url: '/v1/coupons', where: (coupon) => ctx.get('deleted_coupon', coupon.id) === undefined }),
  }),
]

function requireLive(ctx: Ctx, id: string): string {
  if (ctx.get('deleted_coupon', id) !== undefined) throw noSuch('coupon', id)
  return id
}

const presenters = [
  presenter('coupon', {
    compose: (coupon, ctx) => ({ valid: ctx.get('deleted_coupon', coupon.id) === undefined && isCouponValid(coupon, ctx.now()) }),
    onExpand: {
      applies_to: (coupon) => coupon.applies_to,
      currency_options: (coupon) => coupon.currency_options,
    },
  }),
]

export const couponsModule: Module = { operations, presenters }
