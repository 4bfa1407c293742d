import { requireGateway, type BillingContext } from '../src/stripe/context.ts'
import type { MutationKind } from '../src/stripe/gateway/mutations.ts'

type Change = { readonly kind: MutationKind; readonly params: object }
type Which = MutationKind | number | ((change: Change) => boolean)

/**
 * A context in which changes at Stripe fail: `before` they are made, as when Stripe refuses them, or `after`, as when its answer is lost or
 * this process dies of it. Which ones: those of a kind, the n-th of them all, or as a function says.
 */
export function failing(context: BillingContext, at: 'before' | 'after', which: Which, error: Error): BillingContext {
  const gateway = requireGateway(context)
  let nth = 0
  return {
    ...context,
    gateway: {
      ...gateway,
      async perform(kind, params, call) {
        nth += 1
        const isToFail = typeof which === 'function' ? which({ kind, params }) : which === kind || which === nth
        if (isToFail && at === 'before') throw error
        const result = await gateway.perform(kind, params, call)
        if (isToFail) throw error
        return result
      },
    },
  }
}

/** As a process dies: nothing that comes after it is done. */
export const KILLED = new Error('killed')
