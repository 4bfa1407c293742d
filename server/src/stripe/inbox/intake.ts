import { isConnectionError, type Db } from '../../db/database.ts'
import { asSystem } from '../../db/scope.ts'
import { DomainError } from '../../lib/errors.ts'
import { MINUTE_MS } from '../../lib/period.ts'
import { createBatcher, type Batcher } from '../../metering/write/batcher.ts'
import { requireGateway, type BillingContext } from '../context.ts'
import { insertEvents, type ReceivedEvent } from './inbox-store.ts'

/** Whether an event was new, or why it could not be stored. */
type Stored = boolean | { readonly error: unknown }

const GROUP_SIZE = 64
const MOST_WAITING = 5_000

/**
 * Takes a webhook in: signature, then one insert, and that is all before the answer. Those that arrive together are stored together:
 * by an insert and a commit for each, 1,300 a second were taken in where it is 2,000 now. An event that came before changes nothing.
 * Answers whether it was new.
 * @throws DomainError `invalid_signature`, `invalid_request`, `billing_not_configured`, `overloaded`; Stripe then sends it again
 */
export async function receiveWebhook(
  context: BillingContext,
  rawBody: string | Buffer,
  signature: string | undefined,
): Promise<boolean> {
  const gateway = requireGateway(context)
  const secrets = context.policy.webhookSecrets
  if (secrets.length === 0) {
    throw new DomainError('billing_not_configured', 'No signing secret of the webhook endpoint is set.')
  }
  if (signature === undefined) throw new DomainError('invalid_signature', 'invalid signature')
  const envelope = verified(context, () => gateway.verifyWebhook(rawBody, signature, secrets))
  const payload = typeof rawBody === 'string' ? Buffer.from(rawBody) : rawBody
  const [stored] = await intakeOf(context).submit([{ envelope, payload, source: 'webhook' }])
  if (typeof stored === 'object') throw stored.error
  return stored === true
}

/** How many were refused since the log last said so, and when that was; anybody can send some, so it is said once a minute. */
const refusals = new WeakMap<Db, { count: number; saidAt: number }>()

/** Says in the log that webhooks are refused: with a wrong secret everything looks well but for that nothing comes. */
function verified<Envelope>({ db, clock, log }: BillingContext, verify: () => Envelope): Envelope {
  try {
    return verify()
  } catch (error) {
    const refused = refusals.get(db) ?? { count: 0, saidAt: Number.NEGATIVE_INFINITY }
    refusals.set(db, refused)
    refused.count += 1
    const now = clock.now().getTime()
    if (now - refused.saidAt >= MINUTE_MS) {
      const fields = { event: 'stripe.webhook_refused', refused: refused.count }
      log.warn(fields, 'webhooks are refused for their signature: is STRIPE_WEBHOOK_SECRET that of the endpoint?')
      refused.saidAt = now
      refused.count = 0
    }
    throw error
  }
}

const intakes = new WeakMap<Db, Batcher<ReceivedEvent, Stored>>()

/** Whether events are being stored. */
export function isTakingIn({ db }: BillingContext): boolean {
  return (intakes.get(db)?.pending() ?? 0) > 0
}

/** All that a process takes in goes one way. */
function intakeOf({ db, clock }: BillingContext): Batcher<ReceivedEvent, Stored> {
  const known = intakes.get(db)
  if (known) return known
  const intake = createBatcher<ReceivedEvent, Stored>({
    groupSize: GROUP_SIZE,
    flushes: 1,
    queueSize: MOST_WAITING,
    whenFull: 'Too many events of Stripe wait to be stored; Stripe sends this one again.',
    async flush(events) {
      // Whose events they are will be known when they are handled; the signature says that they are Stripe's.
      const isNew = new Set(await asSystem(() => insertEvents(db, events, clock.now())))
      // One that came twice in a group is new once.
      return events.map(({ envelope }) => isNew.delete(envelope.id))
    },
    // One that cannot be stored must not be the failure of those that came with it.
    onFailure: (error) => ({ kind: isAway(error) ? 'fail' : 'split' }),
    answerFailure: (error) => ({ error }),
  })
  intakes.set(db, intake)
  return intake
}

function isAway(error: unknown): boolean {
  return isConnectionError(error) || (error instanceof DomainError && error.code === 'database_unavailable')
}
