import type { Ctx } from '../../engine/context.ts'
import { list } from '../../engine/lists.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import { operation, presenter, timeRule, type Module } from '../../engine/module.ts'
import type { Dispute } from '../../payments/disputes.ts'
import { closeDispute, expireDispute, submitEvidence } from '../../payments/disputes.ts'
import type { Params } from '../../wire.gen.ts'

type UpdateParams = Params['POST /v1/disputes/{id}']

function evidenceOf(evidence: UpdateParams['evidence']): Partial<Dispute['evidence']> {
  const texts = Object.entries(evidence ?? {}).filter(([, value]) => typeof value === 'string')
  return Object.fromEntries(texts.map(([name, value]) => [name, value === '' ? null : value]))
}

function update(ctx: Ctx, id: string, params: Pick<UpdateParams, 'evidence' | 'metadata' | 'submit'>): Dispute {
  const dispute = ctx.require('dispute', id)
  return submitEvidence(ctx, id, {
    evidence: evidenceOf(params.evidence),
    metadata: mergeMetadata(dispute.metadata, params.metadata),
    submit: params.submit ?? true,
  })
}

const operations = [
  operation({ on: 'GET /v1/disputes/{id}', takes: [], run: (ctx, _params, { id }) => ctx.require('dispute', id) }),
  operation({
    on: 'GET /v1/disputes',
    takes: ['limit', 'starting_after', 'ending_before', 'created', 'charge', 'payment_intent'],
    run: (ctx, params) =>
      list(ctx, 'dispute', params, {
        by: params.charge === undefined ? ['payment_intent', params.payment_intent] : ['charge', params.charge],
        url: '/v1/disputes',
      }),
  }),
  operation({
    on: 'POST /v1/disputes/{id}',
    takes: ['evidence', 'metadata', 'submit'],
    refuses: ['evidence.enhanced_evidence', 'evidence.appeal'],
    run: (ctx, params, { id }) => update(ctx, id, params),
  }),
  operation({ on: 'POST /v1/disputes/{id}/close', takes: [], run: (ctx, _params, { id }) => closeDispute(ctx, id) }),
]

const presenters = [
  presenter('dispute', {
    compose: (dispute, ctx) => ({
      balance_transactions: dispute._.balanceTransactions.map((id) => ctx.present(ctx.require('balance_transaction', id))),
    }),
  }),
]

const rules = [
  timeRule({
    name: 'dispute: lost when nobody answered in time',
    object: 'dispute',
    due: (dispute) => {
      const open = dispute.status === 'needs_response' || dispute.status === 'warning_needs_response'
      return open ? dispute.evidence_details.due_by : null
    },
    run: (dispute, ctx) => expireDispute(ctx, dispute),
  }),
]

export const disputesModule: Module = { operations, presenters, rules }
