/** Announcing now, or later in another order than things were done in. */
import type { Ctx, EventType, EmitOptions } from '../engine/context.ts'
import { sameJson } from '../engine/difference.ts'

/** Announces an object as it is at the moment of the call. */
export type Announce = (type: EventType, object: object, options?: EmitOptions) => void

/** Announces at once. */
export function announceNow(ctx: Ctx): Announce {
  return (type, object, options) => ctx.emit(type, object, options)
}

/**
 * Keeps announcements, each with its snapshot, until `flush`. Stripe tells of a new subscription's payment first, then of its
 * invoice, then of the subscription, although they come to be in the other order.
 */
export class LaterEvents {
  private readonly kept: Array<{ type: EventType; snapshot: object; options: EmitOptions | undefined }> = []
  private readonly ctx: Ctx

  constructor(ctx: Ctx) {
    this.ctx = ctx
  }

  readonly announce: Announce = (type, object, options) => {
    this.kept.push({ type, snapshot: this.ctx.present(object), options })
  }

  /** Announces what was kept, in order. */
  flush(): void {
    for (const { type, snapshot, options } of this.kept.splice(0)) this.ctx.emit(type, snapshot, options)
  }
}

/** Changes nothing and announces that an object differs from what it was presented as before; silent when it does not. */
export function announceDifference(
  ctx: Ctx,
  announce: Announce,
  type: EventType,
  after: object,
  before: Record<string, unknown>,
): void {
  if (!sameJson(before, ctx.present(after))) announce(type, after, { before })
}
