import { list } from '../../engine/lists.ts'
import { operation, presenter, type Module } from '../../engine/module.ts'

const operations = [
  operation({
    on: 'GET /v1/balance_transactions/{id}',
    takes: [],
    run: (ctx, _params, { id }) => ctx.require('balance_transaction', id),
  }),
  operation({
    on: 'GET /v1/balance_transactions',
    takes: ['limit', 'starting_after', 'ending_before', 'created', 'currency', 'source', 'type'],
    run: (ctx, params) =>
      list(ctx, 'balance_transaction', params, {
        by: ['source', params.source],
        url: '/v1/balance_transactions',
        where: (transaction) =>
          (params.currency === undefined || transaction.currency === params.currency) &&
          (params.type === undefined || transaction.type === params.type),
      }),
  }),
]

const presenters = [
  presenter('balance_transaction', {
    compose: (transaction, ctx) => ({
      status: transaction.available_on <= ctx.nowOf({ customer: transaction._.customer }) ? 'available' : 'pending',
    }),
  }),
]

export const balanceTransactionsModule: Module = { operations, presenters }
