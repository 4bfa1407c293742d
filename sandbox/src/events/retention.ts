import type { Ctx } from '../engine/context.ts'
import { reaction, type Reaction } from '../engine/module.ts'
import type { StoredName } from '../model/stored.ts'

/** How many events are kept. Stripe's list reaches back 30 days; here it reaches back this far, so that memory stays bounded. */
export const KEPT_EVENTS = 50_000
/** Forgetting goes by batches: the oldest are found by one walk. */
const BATCH = 1000

/** Forgets the oldest events (and their deliveries) when there are too many. What still has to be delivered stays. */
export const forgetEvents: Reaction = reaction('event', (ctx, { before }) => {
  if (before !== undefined || ctx.store.count('event') < KEPT_EVENTS + BATCH) return
  for (const { id } of oldest(ctx, 'event')) {
    const deliveries = ctx.store.by('_delivery', 'event', id)
    if (deliveries.some(({ state }) => state === 'pending')) continue
    for (const delivery of deliveries) ctx.delete('_delivery', delivery.id)
    ctx.delete('event', id)
  }
})

/** Idempotent answers are kept for a day of the sandbox's clock, and at most this many. */
const KEPT_ANSWERS = 50_000

/** Forgets the oldest idempotent answers when there are too many. */
export const forgetOldAnswers: Reaction = reaction('_idempotent_answer', (ctx, { before }) => {
  if (before !== undefined || ctx.store.count('_idempotent_answer') < KEPT_ANSWERS + BATCH) return
  for (const { id } of oldest(ctx, '_idempotent_answer')) ctx.delete('_idempotent_answer', id)
})

function oldest<K extends StoredName>(ctx: Ctx, name: K): Array<{ id: string }> {
  const found: Array<{ id: string }> = []
  for (const object of ctx.store.all(name)) {
    found.push(object as { id: string })
    if (found.length === BATCH) break
  }
  return found
}
