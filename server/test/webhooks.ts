import type { Db } from '../src/db/database.ts'
import type { Clock } from '../src/lib/clock.ts'
import { createSeal } from '../src/lib/seal.ts'
import type { WebhooksContext } from '../src/webhooks/actions.ts'

/** What outgoing webhooks need of a server; nothing is sent by itself. */
export function webhooksContext(db: Db, clock: Clock): WebhooksContext {
  return {
    db,
    clock,
    seal: createSeal('the secret of this server', 'webhooks'),
    destinations: { allowLoopback: false },
    onDue: () => undefined,
  }
}
