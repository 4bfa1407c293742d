/** Plans: what recurring prices were called before there were prices. They are still listed and announced, and cannot be made here. */
import { noSuch } from '../../engine/errors.ts'
import { list, pageOf } from '../../engine/lists.ts'
import { operation, type Module } from '../../engine/module.ts'
import type { Plan } from '../../wire.gen.ts'
import type { StoredPrice } from './price-terms.ts'

/** The plan that stands for a recurring price. */
export function planOf(price: StoredPrice): Plan {
  const { recurring } = price
  return {
    id: price.id,
    object: 'plan',
    active: price.active,
    amount: price.unit_amount,
    amount_decimal: price.unit_amount_decimal,
    billing_scheme: price.billing_scheme,
    created: price.created,
    currency: price.currency,
    interval: recurring?.interval ?? 'month',
    interval_count: recurring?.interval_count ?? 1,
    livemode: false,
    metadata: price.metadata,
    meter: recurring?.meter ?? null,
    nickname: price.nickname,
    product: price.product,
    tiers_mode: price.tiers_mode,
    transform_usage: price.transform_quantity,
    trial_period_days: recurring?.trial_period_days ?? null,
    usage_type: recurring?.usage_type ?? 'licensed',
  }
}

const operations = [
  operation({
    on: 'GET /v1/plans',
    takes: ['limit', 'starting_after', 'ending_before', 'created', 'active', 'product'],
    run: (ctx, params) => {
      const page = list(ctx, 'price', params, {
        url: '/v1/plans',
        by: ['product', params.product],
        where: (price) => price.recurring !== null && (params.active === undefined || price.active === params.active),
      })
      return { ...page, data: page.data.map(planOf) }
    },
  }),
  operation({
    on: 'GET /v1/plans/{id}',
    takes: [],
    run: (ctx, _params, { id }) => {
      const price = ctx.get('price', id)
      if (price === undefined || price.recurring === null) throw noSuch('plan', id)
      return planOf(price)
    },
  }),
  // No card of the sandbox is reported by its issuer, so there are no warnings; programs that copy an account ask for them all the same.
  operation({
    on: 'GET /v1/radar/early_fraud_warnings',
    takes: ['limit', 'starting_after', 'ending_before', 'created', 'charge', 'payment_intent'],
    run: (_ctx, params) => pageOf<{ id: string }>([], params, '/v1/radar/early_fraud_warnings'),
  }),
]

export const plansModule: Module = { operations }
