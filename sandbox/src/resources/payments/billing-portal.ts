import { list } from '../../engine/lists.ts'
import { operation, type Module } from '../../engine/module.ts'
import {
  configurationRefuses,
  configurationTakes,
  createConfiguration,
  updateConfiguration,
} from '../../payments/portal-configurations.ts'
import { createPortalSession, portalSessionTakes } from '../../payments/portal-sessions.ts'

const operations = [
  operation({
    on: 'POST /v1/billing_portal/configurations',
    takes: configurationTakes,
    refuses: configurationRefuses,
    run: createConfiguration,
  }),
  operation({
    on: 'POST /v1/billing_portal/configurations/{id}',
    takes: [...configurationTakes, 'active'],
    refuses: configurationRefuses,
    run: (ctx, params, { id }) => updateConfiguration(ctx, id, params),
  }),
  operation({
    on: 'GET /v1/billing_portal/configurations/{id}',
    takes: [],
    run: (ctx, _params, { id }) => ctx.require('billing_portal.configuration', id),
  }),
  operation({
    on: 'GET /v1/billing_portal/configurations',
    takes: ['limit', 'starting_after', 'ending_before', 'active', 'is_default'],
    run: (ctx, params) =>
      list(ctx, 'billing_portal.configuration', params, {
        url: '/v1/billing_portal/configurations',
        where: (configuration) =>
          (params.active === undefined || configuration.active === params.active) &&
          (params.is_default === undefined || configuration.is_default === params.is_default),
      }),
  }),
  operation({ on: 'POST /v1/billing_portal/sessions', takes: portalSessionTakes, run: createPortalSession }),
]

export const billingPortalModule: Module = { operations }
