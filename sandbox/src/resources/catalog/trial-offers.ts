import { missing } from '../../engine/errors.ts'
import { list } from '../../engine/lists.ts'
import { operation, type Module } from '../../engine/module.ts'

/** Trial offers are kept and listed; a subscription item that names one (`current_trial`) is refused where it is asked for. */
const operations = [
  operation({
    on: 'POST /v1/product_catalog/trial_offers',
    takes: ['duration', 'end_behavior', 'price', 'active', 'nickname'],
    run: (ctx, params) => {
      const { relative } = params.duration
      if (relative === undefined) throw missing('duration[relative]')
      const target = params.end_behavior.transition.price
      ctx.require('price', target, 'end_behavior[transition][price]')
      return ctx.create('product_catalog.trial_offer', {
        id: `to_test_${ctx.token(24)}`,
        object: 'product_catalog.trial_offer',
        active: params.active ?? true,
        duration: { relative, type: 'relative' },
        end_behavior: { transition: { price: target }, type: 'transition' },
        livemode: false,
        nickname: params.nickname ?? null,
        price: ctx.require('price', params.price, 'price').id,
      })
    },
  }),
  operation({
    on: 'POST /v1/product_catalog/trial_offers/{id}',
    takes: ['active'],
    run: (ctx, params, { id }) => {
      const old = ctx.require('product_catalog.trial_offer', id)
      return ctx.update('product_catalog.trial_offer', id, { active: params.active ?? old.active })
    },
  }),
  operation({
    on: 'GET /v1/product_catalog/trial_offers/{id}',
    takes: [],
    run: (ctx, _params, { id }) => ctx.require('product_catalog.trial_offer', id),
  }),
  operation({
    on: 'GET /v1/product_catalog/trial_offers',
    takes: ['limit', 'starting_after', 'ending_before', 'active', 'prices'],
    run: (ctx, params) =>
      list(ctx, 'product_catalog.trial_offer', params, {
        url: '/v1/product_catalog/trial_offers',
        where: (offer) =>
          (params.active === undefined || offer.active === params.active) &&
          (params.prices === undefined || params.prices.includes(offer.price)),
      }),
  }),
]

export const trialOffersModule: Module = { operations }
