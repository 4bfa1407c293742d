import { invalidRequest } from '../engine/errors.ts'
import { list } from '../engine/lists.ts'
import { operation, type Module } from '../engine/module.ts'

const operations = [
  operation({
    on: 'POST /v1/billing/feedback_options',
    takes: ['description'],
    run: (ctx, params) =>
      ctx.create('billing.feedback_option', {
        id: `fbopt_test_${ctx.token(24)}`,
        object: 'billing.feedback_option',
        description: params.description,
        livemode: false,
        status: 'active',
        status_transitions: { deactivated_at: null },
      }),
  }),
  operation({
    on: 'POST /v1/billing/feedback_options/{id}',
    takes: ['description'],
    run: (ctx, params, { id }) => {
      const old = ctx.require('billing.feedback_option', id)
      return ctx.update('billing.feedback_option', id, { description: params.description ?? old.description })
    },
  }),
  operation({
    on: 'POST /v1/billing/feedback_options/{id}/deactivate',
    takes: [],
    run: (ctx, _params, { id }) => {
      if (ctx.require('billing.feedback_option', id).status === 'inactive')
        throw invalidRequest('This feedback option is inactive already.')
      return ctx.update('billing.feedback_option', id, { status: 'inactive', status_transitions: { deactivated_at: ctx.now() } })
    },
  }),
  operation({
    on: 'GET /v1/billing/feedback_options/{id}',
    takes: [],
    run: (ctx, _params, { id }) => ctx.require('billing.feedback_option', id),
  }),
  operation({
    on: 'GET /v1/billing/feedback_options',
    takes: ['limit', 'starting_after', 'ending_before', 'status'],
    run: (ctx, params) =>
      list(ctx, 'billing.feedback_option', params, {
        url: '/v1/billing/feedback_options',
        where: (option) => params.status === undefined || option.status === params.status,
      }),
  }),
]

export const feedbackOptionsModule: Module = { operations }
