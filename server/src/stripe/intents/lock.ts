import type { Db, Session } from '../../db/database.ts'
import { DomainError } from '../../lib/errors.ts'
import type { BillingContext } from '../context.ts'
import { createLockGate, type LockGate } from './lock-gate.ts'

/**
 * The lock of one organization's billing, across all processes. Whoever changes something at Stripe, or refetches from it and
 * applies the result, holds it meanwhile: so two refetches cannot overwrite newer by older, and two buyers cannot start two
 * subscriptions. It is an advisory lock of a session, not of a transaction, since no transaction may be open while Stripe is
 * called; it ends with its connection, so a killed process leaves none behind (decision 0021).
 */
const LOCK_SPACE = 7_865_433
const WAIT_MS = 30_000
/** Connections of the pool that may be lent to billing at once. */
const SESSIONS = 6
const UNAVAILABLE = '55P03'

/**
 * Runs `work` while holding the organization's lock, waiting for it if need be.
 * @throws DomainError `overloaded` when another holder keeps it for half a minute
 */
export async function withOrganizationLock<Result>(
  context: Pick<BillingContext, 'db'>,
  organizationId: string,
  work: (session: Session) => Promise<Result>,
): Promise<Result> {
  const leave = await gateOf(context.db).enter(organizationId)
  try {
    return await context.db.session(async (session) => {
      await acquire(session, organizationId)
      try {
        return await work(session)
      } finally {
        await release(session, organizationId)
      }
    })
  } finally {
    leave()
  }
}

/** The same without waiting: null when somebody else holds the lock. */
export async function tryOrganizationLock<Result>(
  context: Pick<BillingContext, 'db'>,
  organizationId: string,
  work: (session: Session) => Promise<Result>,
): Promise<Result | null> {
  const leave = gateOf(context.db).tryEnter(organizationId)
  if (leave === null) return null
  try {
    return await context.db.session((session) => runIfFree(session, organizationId, work))
  } finally {
    leave()
  }
}

/** The locks of several organizations on one session; each may be let go before the others. */
export type HeldLocks = {
  readonly session: Session
  readonly organizationIds: readonly string[]
  release(this: void, organizationIds: readonly string[]): Promise<void>
}

/**
 * Locks as many of the organizations as nobody else holds, without waiting, and runs `work` with those; what it has not released
 * by its end is released then. Answers null where `work` could not begin.
 */
export async function tryOrganizationLocks<Result>(
  context: Pick<BillingContext, 'db'>,
  organizationIds: readonly string[],
  work: (held: HeldLocks) => Promise<Result>,
): Promise<Result | null> {
  const entered = gateOf(context.db).tryEnterAll(organizationIds)
  if (entered === null) return null
  try {
    return await context.db.session(async (session) => {
      const { rows } = await session.query<{ id: string }>(
        'select id from unnest($2::text[]) as id where pg_try_advisory_lock($1, hashtext(id))',
        [LOCK_SPACE, entered.keys],
      )
      const held = new Set(rows.map(({ id }) => id))
      // Whoever waits for one that another process holds need not wait for the others.
      for (const id of entered.keys) if (!held.has(id)) entered.leave(id)
      const releaseAll = async (ids: readonly string[]): Promise<void> => {
        const own = ids.filter((id) => held.delete(id))
        if (own.length === 0) return
        await session.query('select pg_advisory_unlock($1, hashtext(id)) from unnest($2::text[]) as id', [LOCK_SPACE, own])
        for (const id of own) entered.leave(id)
      }
      try {
        return await work({ session, organizationIds: [...held], release: releaseAll })
      } finally {
        await releaseAll([...held])
      }
    })
  } finally {
    for (const id of entered.keys) entered.leave(id)
  }
}

const gates = new WeakMap<Db, LockGate>()

function gateOf(db: Db): LockGate {
  const known = gates.get(db)
  if (known) return known
  const gate = createLockGate(SESSIONS)
  gates.set(db, gate)
  return gate
}

async function runIfFree<Result>(
  session: Session,
  organizationId: string,
  work: (session: Session) => Promise<Result>,
): Promise<Result | null> {
  const { rows } = await session.query<{ held: boolean }>('select pg_try_advisory_lock($1, hashtext($2)) as held', [
    LOCK_SPACE,
    organizationId,
  ])
  if (rows[0]?.held !== true) return null
  try {
    return await work(session)
  } finally {
    await release(session, organizationId)
  }
}

async function acquire(session: Session, organizationId: string): Promise<void> {
  await session.query(`set lock_timeout = ${WAIT_MS}`)
  try {
    await session.query('select pg_advisory_lock($1, hashtext($2))', [LOCK_SPACE, organizationId])
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === UNAVAILABLE) {
      throw new DomainError('overloaded', 'Another change of this subscription is still under way; please try again.')
    }
    throw error
  } finally {
    await session.query('reset lock_timeout')
  }
}

async function release(session: Session, organizationId: string): Promise<void> {
  await session.query('select pg_advisory_unlock($1, hashtext($2))', [LOCK_SPACE, organizationId])
}
