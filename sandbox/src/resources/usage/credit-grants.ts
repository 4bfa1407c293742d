import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, missing } from '../../engine/errors.ts'
import { list } from '../../engine/lists.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import { operation, presenter, type Module } from '../../engine/module.ts'
import type { Params } from '../../wire.gen.ts'
import { checkedCurrency } from '../catalog/price-create.ts'
import { dropCredit, expireCredits, grantCredit, isInForce, type CreditGrant } from './credit-balance.ts'

const DEFAULT_PRIORITY = 50
/** Source: docs.stripe.com/billing/subscriptions/usage-based/billing-credits: 100 unused grants a customer. */
const MAX_UNUSED = 100

type CreateParams = Omit<Params['POST /v1/billing/credit_grants'], 'expand' | 'customer_account'>

function create(ctx: Ctx, params: CreateParams): CreditGrant {
  if (params.customer === undefined) throw missing('customer')
  const customer = ctx.require('customer', params.customer, 'customer')
  const { monetary } = params.amount
  if (monetary === undefined) throw missing('amount[monetary]')
  if (monetary.value <= 0) throw invalidRequest('The amount must be greater than 0.', { param: 'amount[monetary][value]' })
  const now = ctx.now(customer.id)
  checkTimes(now, params)
  if (params.priority !== undefined && (params.priority < 0 || params.priority > 100)) {
    throw invalidRequest('The priority must be between 0 and 100.', { param: 'priority' })
  }
  const unused = ctx.store.by('billing.credit_grant', 'customer', customer.id).filter((grant) => grant._.remaining > 0)
  if (unused.length >= MAX_UNUSED) throw invalidRequest(`A customer can have at most ${MAX_UNUSED} unused credit grants.`)
  const grant = ctx.create('billing.credit_grant', {
    id: `credgr_test_${ctx.token(24)}`,
    object: 'billing.credit_grant',
    amount: { monetary: { currency: checkedCurrency(monetary.currency), value: monetary.value }, type: 'monetary' },
    applicability_config: { scope: scopeOf(ctx, params) },
    category: params.category ?? 'paid',
    created: now,
    customer: customer.id,
    customer_account: null,
    effective_at: params.effective_at ?? now,
    expires_at: params.expires_at ?? null,
    livemode: false,
    metadata: mergeMetadata({}, params.metadata),
    name: params.name ?? null,
    priority: params.priority ?? DEFAULT_PRIORITY,
    test_clock: customer.test_clock ?? null,
    updated: now,
    voided_at: null,
    _: { remaining: 0 },
  })
  ctx.emit('billing.credit_grant.created', grant)
  grantCredit(ctx, grant, monetary.value)
  return ctx.require('billing.credit_grant', grant.id)
}

function checkTimes(now: number, params: CreateParams): void {
  if (params.effective_at !== undefined && params.effective_at < now) {
    throw invalidRequest('`effective_at` must not be in the past.', { param: 'effective_at' })
  }
  if (params.expires_at !== undefined && params.expires_at <= (params.effective_at ?? now)) {
    throw invalidRequest('`expires_at` must be after `effective_at`.', { param: 'expires_at' })
  }
}

function scopeOf(ctx: Ctx, params: CreateParams): CreditGrant['applicability_config']['scope'] {
  const { price_type: type, prices } = params.applicability_config.scope
  if ((type === undefined) === (prices === undefined)) {
    throw invalidRequest('Exactly one of `price_type` and `prices` must be given.', { param: 'applicability_config[scope]' })
  }
  if (prices === undefined) return { price_type: 'metered' }
  for (const [index, price] of prices.entries()) {
    const found = ctx.require('price', price.id, `applicability_config[scope][prices][${index}][id]`)
    if (found.recurring?.usage_type !== 'metered') {
      throw invalidRequest('Credit grants apply to metered prices only.', {
        param: `applicability_config[scope][prices][${index}][id]`,
      })
    }
  }
  return { prices: prices.map(({ id }) => ({ id })) }
}

function update(ctx: Ctx, id: string, params: Omit<Params['POST /v1/billing/credit_grants/{id}'], 'expand'>): CreditGrant {
  const grant = ctx.require('billing.credit_grant', id)
  const now = ctx.now(grant.customer)
  if (grant.voided_at !== null || (grant.expires_at !== null && grant.expires_at <= now)) {
    throw invalidRequest('A voided or expired credit grant cannot be updated.')
  }
  if (typeof params.expires_at === 'number' && params.expires_at <= now) {
    throw invalidRequest('`expires_at` must be in the future.', { param: 'expires_at' })
  }
  const expiresAt = params.expires_at === undefined ? grant.expires_at : params.expires_at === '' ? null : params.expires_at
  const patch = { expires_at: expiresAt, metadata: mergeMetadata(grant.metadata, params.metadata), updated: now }
  return ctx.change('billing.credit_grant', id, patch, 'billing.credit_grant.updated')
}

function expire(ctx: Ctx, id: string): CreditGrant {
  const grant = ctx.require('billing.credit_grant', id)
  const now = ctx.now(grant.customer)
  if (!isInForce(grant, now)) throw invalidRequest('Only a credit grant in force can be expired.')
  dropCredit(ctx, grant, 'credits_expired')
  return ctx.change('billing.credit_grant', id, { expires_at: now, updated: now }, 'billing.credit_grant.updated')
}

function voidGrant(ctx: Ctx, id: string): CreditGrant {
  const grant = ctx.require('billing.credit_grant', id)
  if (grant.voided_at !== null) throw invalidRequest('This credit grant is already voided.')
  if (grant._.remaining !== grant.amount.monetary?.value) throw invalidRequest('A credit grant that was used cannot be voided.')
  const now = ctx.now(grant.customer)
  dropCredit(ctx, grant, 'credits_voided')
  return ctx.change('billing.credit_grant', id, { voided_at: now, updated: now }, 'billing.credit_grant.updated')
}

type SummaryParams = Omit<Params['GET /v1/billing/credit_balance_summary'], 'expand' | 'customer_account'>

function summary(ctx: Ctx, params: SummaryParams): object {
  if (params.customer === undefined) throw missing('customer')
  const customer = ctx.require('customer', params.customer, 'customer')
  const now = ctx.now(customer.id)
  const grants = ctx.store.by('billing.credit_grant', 'customer', customer.id).filter((grant) => isSummed(grant, params.filter))
  const currencies = Map.groupBy(grants, (grant) => grant.amount.monetary?.currency ?? 'usd')
  const balance = (currency: string, value: number) => ({ monetary: { currency, value }, type: 'monetary' })
  const sum = (members: CreditGrant[]) => members.reduce((total, grant) => total + grant._.remaining, 0)
  return {
    object: 'billing.credit_balance_summary',
    balances: [...currencies].map(([currency, members]) => ({
      available_balance: balance(currency, sum(members.filter((grant) => isInForce(grant, now)))),
      ledger_balance: balance(currency, sum(members.filter((grant) => (grant.effective_at ?? grant.created) <= now))),
    })),
    customer: customer.id,
    customer_account: null,
    livemode: false,
  }
}

function isSummed(grant: CreditGrant, filter: SummaryParams['filter']): boolean {
  if (filter.type === 'credit_grant') {
    if (filter.credit_grant === undefined) throw missing('filter[credit_grant]')
    return grant.id === filter.credit_grant
  }
  const scope = filter.applicability_scope
  if (scope === undefined) throw missing('filter[applicability_scope]')
  const own = grant.applicability_config.scope
  if (scope.prices === undefined) return own.price_type === 'metered'
  return own.price_type === 'metered' || scope.prices.every(({ id }) => own.prices?.some((price) => price.id === id) === true)
}

const operations = [
  operation({
    on: 'POST /v1/billing/credit_grants',
    takes: [
      'amount',
      'applicability_config',
      'category',
      'customer',
      'effective_at',
      'expires_at',
      'metadata',
      'name',
      'priority',
    ],
    run: create,
  }),
  operation({
    on: 'POST /v1/billing/credit_grants/{id}',
    takes: ['expires_at', 'metadata'],
    run: (ctx, params, { id }) => update(ctx, id, params),
  }),
  operation({
    on: 'GET /v1/billing/credit_grants/{id}',
    takes: [],
    run: (ctx, _params, { id }) => ctx.require('billing.credit_grant', id),
  }),
  operation({
    on: 'GET /v1/billing/credit_grants',
    takes: ['limit', 'starting_after', 'ending_before', 'customer'],
    run: (ctx, params) =>
      list(ctx, 'billing.credit_grant', params, { url: '/v1/billing/credit_grants', by: ['customer', params.customer] }),
  }),
  operation({ on: 'POST /v1/billing/credit_grants/{id}/expire', takes: [], run: (ctx, _params, { id }) => expire(ctx, id) }),
  operation({ on: 'POST /v1/billing/credit_grants/{id}/void', takes: [], run: (ctx, _params, { id }) => voidGrant(ctx, id) }),
  operation({ on: 'GET /v1/billing/credit_balance_summary', takes: ['customer', 'filter'], run: summary }),
  operation({
    on: 'GET /v1/billing/credit_balance_transactions',
    takes: ['limit', 'starting_after', 'ending_before', 'credit_grant', 'customer'],
    run: (ctx, params) => {
      if (params.customer === undefined) throw missing('customer')
      return list(ctx, 'billing.credit_balance_transaction', params, {
        url: '/v1/billing/credit_balance_transactions',
        by: ['customer', params.customer],
        where: (transaction) => params.credit_grant === undefined || transaction.credit_grant === params.credit_grant,
      })
    },
  }),
  operation({
    on: 'GET /v1/billing/credit_balance_transactions/{id}',
    takes: [],
    run: (ctx, _params, { id }) => ctx.require('billing.credit_balance_transaction', id),
  }),
]

const presenters = [presenter('billing.credit_grant', {}), presenter('billing.credit_balance_transaction', {})]

export const creditGrantsModule: Module = { operations, presenters, rules: [expireCredits] }
