import { operation, type Module } from '../../engine/module.ts'

/** Cards need no mandate, so none is made; asking for one answers that there is none. */
export const mandatesModule: Module = {
  operations: [operation({ on: 'GET /v1/mandates/{id}', takes: [], run: (ctx, _params, { id }) => ctx.require('mandate', id) })],
}
