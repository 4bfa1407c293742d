import { insertAuditEntry } from '../audit/store.ts'
import type { BillingContext } from './context.ts'
import type { IntentDb } from './intents/intents.ts'
import { LEFT_TO_OPERATORS, type LeftToOperators } from './mirror/billing-events.ts'
import { readOrganization, timeOf } from './organizations.ts'

/** Whose it is, and where it is kept. */
type Leaving = { readonly context: BillingContext; readonly session: IntentDb; readonly organizationId: string }

/** What of a customer's money does not come right by itself. */
export type Left = {
  readonly kind: LeftToOperators
  /** What it is about: it is told once. */
  readonly about: string
  /** The id of what was not changed. */
  readonly target: string
  readonly data: Readonly<Record<string, unknown>>
  readonly words: string
  readonly error?: unknown
}

/** The key under which it is told once, in SQL; `about` is an expression. */
export const toldKey = (kind: LeftToOperators, about: string): string => `'${kind}:' || ${about}`

/**
 * Leaves to operators what cannot be made, where they look: the organization's timeline and audit log, the metric by which an alert is raised, and the
 * log. Once, however often it is found.
 */
export async function leaveToOperators({ context, session, organizationId }: Leaving, left: Left): Promise<void> {
  const { kind, about, target, data, words, error } = left
  const at = context.clock.now()
  const occurredAt = timeOf(await readOrganization(session, organizationId), context.clock)
  const isNew = await session.transaction(async (tx) => {
    const inserted = await tx.query(
      `insert into billing_events (organization_id, key, kind, data, occurred_at, recorded_at) values ($1, ${toldKey(kind, '$2')}, $3, $4, $5, $6)
       on conflict do nothing`,
      [organizationId, about, kind, JSON.stringify(data), occurredAt, at],
    )
    if (inserted.rowCount === 0) return false
    const told = { actor: 'system:billing', action: kind, target, before: null, after: data, requestId: null, at }
    await insertAuditEntry(tx, { organizationId, ...told })
    return true
  })
  if (!isNew) return
  const reason = error === undefined ? {} : { err: error }
  context.log.error({ event: LEFT_TO_OPERATORS[kind], organization_id: organizationId, ...data, ...reason }, words)
}
