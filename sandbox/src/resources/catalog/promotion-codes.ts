import { defined } from '../../engine/answer.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, missing } from '../../engine/errors.ts'
import { list } from '../../engine/lists.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import { operation, type Module } from '../../engine/module.ts'
import type { Stored } from '../../model/stored.ts'
import type { Params } from '../../wire.gen.ts'
import { isCouponValid } from './discount-rules.ts'

type PromotionCode = Stored<'promotion_code'>
type CreateParams = Omit<Params['POST /v1/promotion_codes'], 'expand' | 'customer_account'>

function create(ctx: Ctx, params: CreateParams): PromotionCode {
  if (params.promotion.coupon === undefined) throw missing('promotion[coupon]')
  const coupon = ctx.require('coupon', params.promotion.coupon, 'promotion[coupon]')
  if (!isCouponValid(coupon, ctx.now())) {
    throw invalidRequest(`The coupon ${coupon.id} is no longer valid.`, { param: 'promotion[coupon]' })
  }
  if (params.customer !== undefined) ctx.require('customer', params.customer, 'customer')
  const code = params.code ?? ctx.token(8).toUpperCase()
  checkCode(ctx, code, params.customer ?? null)
  const restrictions = params.restrictions
  if ((restrictions?.minimum_amount === undefined) !== (restrictions?.minimum_amount_currency === undefined)) {
    throw missing(`restrictions[${restrictions?.minimum_amount === undefined ? 'minimum_amount' : 'minimum_amount_currency'}]`)
  }
  return ctx.create(
    'promotion_code',
    {
      id: ctx.newId('promo', 24),
      object: 'promotion_code',
      active: params.active ?? true,
      code,
      created: ctx.now(params.customer),
      customer: params.customer ?? null,
      customer_account: null,
      expires_at: params.expires_at ?? null,
      livemode: false,
      max_redemptions: params.max_redemptions ?? null,
      metadata: mergeMetadata({}, params.metadata),
      promotion: { coupon: coupon.id, type: 'coupon' },
      restrictions: defined({
        currency_options: minimumsOf(restrictions?.currency_options),
        first_time_transaction: restrictions?.first_time_transaction ?? false,
        minimum_amount: restrictions?.minimum_amount ?? null,
        minimum_amount_currency: restrictions?.minimum_amount_currency ?? null,
      }),
      times_redeemed: 0,
    },
    'promotion_code.created',
  )
}

function minimumsOf(
  options: Record<string, { minimum_amount?: number }> | undefined,
): Record<string, { minimum_amount: number }> | undefined {
  if (options === undefined) return undefined
  return Object.fromEntries(
    Object.entries(options).map(([currency, option]) => [currency, { minimum_amount: option.minimum_amount ?? 0 }]),
  )
}

/** A code is unique among the active ones that the same customers could use; case does not matter. */
function checkCode(ctx: Ctx, code: string, customer: string | null): void {
  if (!/^[A-Za-z0-9-]+$/.test(code)) {
    throw invalidRequest('Promotion codes may only contain letters, digits and dashes.', { param: 'code' })
  }
  const taken = ctx.store
    .by('promotion_code', 'code', code.toLowerCase())
    .some((other) => other.active && (other.customer === null || customer === null || other.customer === customer))
  if (taken) {
    throw invalidRequest(`An active promotion code with \`code: ${code}\` already exists.`, {
      param: 'code',
      code: 'resource_already_exists',
    })
  }
}

function update(ctx: Ctx, id: string, params: Omit<Params['POST /v1/promotion_codes/{id}'], 'expand'>): PromotionCode {
  const old = ctx.require('promotion_code', id)
  if (params.active === true && !old.active) checkCode(ctx, old.code, old.customer)
  const options = minimumsOf(params.restrictions?.currency_options)
  const restrictions =
    options === undefined
      ? old.restrictions
      : { ...old.restrictions, currency_options: { ...old.restrictions.currency_options, ...options } }
  return ctx.change(
    'promotion_code',
    id,
    { active: params.active ?? old.active, metadata: mergeMetadata(old.metadata, params.metadata), restrictions },
    'promotion_code.updated',
  )
}

const operations = [
  operation({
    on: 'POST /v1/promotion_codes',
    takes: ['promotion', 'active', 'code', 'customer', 'expires_at', 'max_redemptions', 'metadata', 'restrictions'],
    run: create,
  }),
  operation({
    on: 'POST /v1/promotion_codes/{id}',
    takes: ['active', 'metadata', 'restrictions'],
    run: (ctx, params, { id }) => update(ctx, id, params),
  }),
  operation({ on: 'GET /v1/promotion_codes/{id}', takes: [], run: (ctx, _params, { id }) => ctx.require('promotion_code', id) }),
  operation({
    on: 'GET /v1/promotion_codes',
    takes: ['limit', 'starting_after', 'ending_before', 'created', 'active', 'code', 'coupon', 'customer'],
    run: (ctx, params) =>
      list(ctx, 'promotion_code', params, {
        url: '/v1/promotion_codes',
        by: params.code === undefined ? ['coupon', params.coupon] : ['code', params.code.toLowerCase()],
        where: (promotion) =>
          (params.active === undefined || promotion.active === params.active) &&
          (params.coupon === undefined || promotion.promotion.coupon === params.coupon) &&
          (params.customer === undefined || promotion.customer === params.customer),
      }),
  }),
]

export const promotionCodesModule: Module = { operations }
