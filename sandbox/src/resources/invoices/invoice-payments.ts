import { list } from '../../engine/lists.ts'
import { type Module, operation } from '../../engine/module.ts'

const operations = [
  operation({
    on: 'GET /v1/invoice_payments/{id}',
    takes: [],
    run: (ctx, _params, { id }) => ctx.require('invoice_payment', id),
  }),
  operation({
    on: 'GET /v1/invoice_payments',
    takes: ['limit', 'starting_after', 'ending_before', 'created', 'invoice', 'payment', 'status'],
    run: (ctx, params) => {
      const intent = params.payment?.payment_intent
      return list(ctx, 'invoice_payment', params, {
        url: '/v1/invoice_payments',
        by: params.invoice === undefined ? ['payment_intent', intent] : ['invoice', params.invoice],
        where: (payment) =>
          (params.status === undefined || payment.status === params.status) &&
          (intent === undefined || payment.payment.payment_intent === intent),
      })
    },
  }),
]

export const invoicePaymentsModule: Module = { operations }
