import { listsAutomaticTaxRates } from '../../billing/inferred.ts'
import { orNull, updated } from '../../engine/answer.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest } from '../../engine/errors.ts'
import { list } from '../../engine/lists.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import { operation, type Module } from '../../engine/module.ts'
import type { Stored } from '../../model/stored.ts'
import type { Params } from '../../wire.gen.ts'

type TaxRate = Stored<'tax_rate'>

const CREATE_TAKES = [
  'display_name',
  'inclusive',
  'percentage',
  'active',
  'country',
  'description',
  'jurisdiction',
  'metadata',
  'state',
  'tax_type',
] as const

function create(ctx: Ctx, params: Pick<Params['POST /v1/tax_rates'], (typeof CREATE_TAKES)[number]>): TaxRate {
  if (params.percentage < 0 || params.percentage > 100) {
    throw invalidRequest('The percentage must be between 0 and 100.', { param: 'percentage' })
  }
  return ctx.create(
    'tax_rate',
    {
      id: ctx.newId('txr', 24),
      object: 'tax_rate',
      active: params.active ?? true,
      country: orNull(params.country),
      created: ctx.now(),
      description: orNull(params.description),
      display_name: params.display_name,
      effective_percentage: null,
      flat_amount: null,
      inclusive: params.inclusive,
      jurisdiction: params.jurisdiction ?? null,
      jurisdiction_level: null,
      livemode: false,
      metadata: mergeMetadata({}, params.metadata),
      percentage: params.percentage,
      rate_type: 'percentage',
      state: orNull(params.state),
      tax_type: params.tax_type ?? null,
    },
    'tax_rate.created',
  )
}

function update(ctx: Ctx, id: string, params: Omit<Params['POST /v1/tax_rates/{id}'], 'expand'>): TaxRate {
  const old = ctx.require('tax_rate', id)
  return ctx.change(
    'tax_rate',
    id,
    {
      active: params.active ?? old.active,
      country: updated(old.country, params.country),
      description: updated(old.description, params.description),
      display_name: params.display_name ?? old.display_name,
      jurisdiction: params.jurisdiction ?? old.jurisdiction,
      metadata: mergeMetadata(old.metadata, params.metadata),
      state: updated(old.state, params.state),
      tax_type: params.tax_type ?? old.tax_type,
    },
    'tax_rate.updated',
  )
}

const operations = [
  operation({ on: 'POST /v1/tax_rates', takes: CREATE_TAKES, run: create }),
  operation({
    on: 'POST /v1/tax_rates/{id}',
    takes: ['active', 'country', 'description', 'display_name', 'jurisdiction', 'metadata', 'state', 'tax_type'],
    run: (ctx, params, { id }) => update(ctx, id, params),
  }),
  operation({ on: 'GET /v1/tax_rates/{id}', takes: [], run: (ctx, _params, { id }) => ctx.require('tax_rate', id) }),
  operation({
    on: 'GET /v1/tax_rates',
    takes: ['limit', 'starting_after', 'ending_before', 'created', 'active', 'inclusive'],
    run: (ctx, params) =>
      list(ctx, 'tax_rate', params, {
        url: '/v1/tax_rates',
        where: (rate) =>
          (listsAutomaticTaxRates() || rate._ === undefined) &&
          (params.active === undefined || rate.active === params.active) &&
          (params.inclusive === undefined || rate.inclusive === params.inclusive),
      }),
  }),
]

export const taxRatesModule: Module = { operations }
