import { isShorter, boundary, type Recurrence } from '../billing/periods.ts'
import { orNull } from '../engine/answer.ts'
import type { Ctx } from '../engine/context.ts'
import { invalidRequest } from '../engine/errors.ts'
import { list } from '../engine/lists.ts'
import { operation, type Module } from '../engine/module.ts'
import type { Stored } from '../model/stored.ts'
import { recurrenceOf } from './catalog/price-terms.ts'

type TestClock = Stored<'test_helpers.test_clock'>

/** A test clock is deleted by itself 30 days after it was made. Source: docs.stripe.com/billing/testing/test-clocks. */
const LIFETIME_SECONDS = 30 * 86_400

function create(ctx: Ctx, params: { frozen_time: number; name?: string }): TestClock {
  return ctx.create(
    'test_helpers.test_clock',
    {
      id: ctx.newId('clock', 24),
      object: 'test_helpers.test_clock',
      created: ctx.now(),
      deletes_after: ctx.now() + LIFETIME_SECONDS,
      frozen_time: params.frozen_time,
      livemode: false,
      name: orNull(params.name),
      status: 'ready',
      status_details: {},
    },
    'test_helpers.test_clock.created',
  )
}

/** Sets a clock going; what is due until the target happens after the answer, in order, and ends with the status `ready`. */
export function advanceTestClock(ctx: Ctx, id: string, target: number): TestClock {
  const clock = ctx.require('test_helpers.test_clock', id)
  if (clock.status !== 'ready') {
    throw invalidRequest(`The test clock is ${clock.status}. Wait for it to be ready before you advance it.`, {
      code: 'test_clock_not_ready',
    })
  }
  if (target <= clock.frozen_time) {
    throw invalidRequest('The `frozen_time` must be after the current frozen time of the test clock.', { param: 'frozen_time' })
  }
  const limit = furthestAdvance(ctx, clock)
  if (limit !== null && target > limit) {
    throw invalidRequest(
      'Test clocks may only be advanced by at most two intervals of the shortest subscription of its customers. Advance it in smaller steps.',
      { param: 'frozen_time' },
    )
  }
  const moving = ctx.update('test_helpers.test_clock', id, {
    status: 'advancing',
    status_details: { advancing: { target_frozen_time: target } },
  })
  ctx.emit('test_helpers.test_clock.advancing', moving)
  return moving
}

/** Two intervals of the shortest live subscription from now on; null without one. */
function furthestAdvance(ctx: Ctx, clock: TestClock): number | null {
  let shortest: Recurrence | null = null
  for (const customer of ctx.store.by('customer', 'test_clock', clock.id)) {
    for (const subscription of ctx.store.by('subscription', 'customer', customer.id)) {
      if (subscription.ended_at !== null) continue
      for (const item of subscription._.items) {
        const recurrence = recurrenceOf(ctx.require('price', item.price))
        if (shortest === null || isShorter(recurrence, shortest)) shortest = recurrence
      }
    }
  }
  return shortest === null ? null : boundary({ at: clock.frozen_time }, shortest, 2)
}

/** Deletes a clock and its customers, whose subscriptions end. */
function remove(ctx: Ctx, id: string): object {
  const clock = ctx.require('test_helpers.test_clock', id)
  for (const customer of ctx.store.by('customer', 'test_clock', id)) {
    for (const subscription of ctx.store.by('subscription', 'customer', customer.id)) ctx.delete('subscription', subscription.id)
    for (const invoice of ctx.store.by('invoice', 'customer', customer.id)) ctx.delete('invoice', invoice.id)
    for (const item of ctx.store.by('invoiceitem', 'customer', customer.id)) ctx.delete('invoiceitem', item.id)
    for (const schedule of ctx.store.by('subscription_schedule', 'customer', customer.id))
      ctx.delete('subscription_schedule', schedule.id)
    for (const discount of ctx.store.by('discount', 'customer', customer.id)) ctx.delete('discount', discount.id)
    ctx.emit('customer.deleted', customer)
    ctx.delete('customer', customer.id)
    ctx.create('deleted_customer', { id: customer.id, object: 'customer', deleted: true })
  }
  ctx.delete('test_helpers.test_clock', id)
  ctx.emit('test_helpers.test_clock.deleted', clock)
  return { id, object: 'test_helpers.test_clock', deleted: true }
}

const operations = [
  operation({ on: 'POST /v1/test_helpers/test_clocks', takes: ['frozen_time', 'name'], run: create }),
  operation({
    on: 'POST /v1/test_helpers/test_clocks/{id}/advance',
    takes: ['frozen_time'],
    run: (ctx, params, { id }) => advanceTestClock(ctx, id, params.frozen_time),
  }),
  operation({
    on: 'GET /v1/test_helpers/test_clocks/{id}',
    takes: [],
    run: (ctx, _params, { id }) => ctx.require('test_helpers.test_clock', id),
  }),
  operation({ on: 'DELETE /v1/test_helpers/test_clocks/{id}', takes: [], run: (ctx, _params, { id }) => remove(ctx, id) }),
  operation({
    on: 'GET /v1/test_helpers/test_clocks',
    takes: ['limit', 'starting_after', 'ending_before'],
    run: (ctx, params) => list(ctx, 'test_helpers.test_clock', params, { url: '/v1/test_helpers/test_clocks' }),
  }),
]

export const testClocksModule: Module = { operations }
