import { insertAuditEntry } from '../audit/store.ts'
import type { Db, Transaction } from '../db/database.ts'
import { publishEvent } from '../events/actions.ts'
import type { Instant } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { formatQuantity, quantityToJson, type Quantity } from '../lib/quantity.ts'
import type { KeyedRequest } from '../lib/sent-request.ts'
import { rememberRequest } from '../organizations/requests-store.ts'
import { timeOf, type GrantsContext } from './actions.ts'
import {
  availableOf,
  DEFAULT_PRIORITY,
  meterOf,
  partsOf,
  type Grant,
  type GrantKind,
  type GrantParts,
  UNTOUCHED,
} from './rules.ts'
import {
  findAccounts,
  findGrantsById,
  insertGrants,
  insertMissingAccounts,
  listGrants,
  lockAccounts,
  updateGrants,
} from './store.ts'

export type GivingContext = GrantsContext & { readonly db: Db }

/** Who gives or revokes, for the audit log. */
export type Giver = { readonly actor: string; readonly requestId: string | null }

/** What is given besides a plan's own allowances. */
export type GrantInput = {
  readonly organizationId: string
  /** Names the gift: giving it again under the same id changes nothing. A purchase names its payment here. */
  readonly id: string
  readonly balanceKey: string
  readonly kind: Exclude<GrantKind, 'plan'>
  /** null is unlimited. */
  readonly amount: Quantity | null
  /** Default: the organization's present. */
  readonly startsAt?: Instant | null
  /** null never expires. */
  readonly expiresAt?: Instant | null
  /** Lower is drawn first; default by kind. */
  readonly priority?: number | undefined
  /** Which meters it pays for; null is every meter of the balance. */
  readonly meters?: readonly string[] | null
  readonly reason?: string | null
}

/** A grant as it stands at its organization's time. */
export type GrantReading = Grant & GrantParts

/**
 * Gives a grant: a promotion, a top-up that was paid for, something by hand. Under an id that was used before it answers that
 * grant, so that a purchase told twice is given once.
 * @throws DomainError `not_found` for an unknown organization, `invalid_request` for a balance or meter that the catalog does not
 * know, or an expiry in the past; `idempotency_conflict` when the id names a grant with other terms
 */
export async function giveGrant(
  context: GivingContext,
  input: GrantInput,
  giver: Giver,
): Promise<{ grant: GrantReading; given: boolean }> {
  return context.db.transaction((tx) => giveGrantIn(tx, context, input, giver))
}

/** The same within a transaction of the caller's, e.g. that which marks a payment as handled. */
export async function giveGrantIn(
  tx: Transaction,
  context: GrantsContext,
  input: GrantInput,
  giver: Giver,
): Promise<{ grant: GrantReading; given: boolean }> {
  await checkNames(tx, context, input)
  return storeOnce(tx, context, {
    input,
    giver,
    differing: (known, asked, now) => differingField(known, asked) ?? differingTerm(known, asked, now),
  })
}

/**
 * The same for names that were checked before: what was sold is given, whatever the catalog has become since. Its span follows
 * from when its payment was heard of, so that a repeat may have another.
 */
export async function storeGrantIn(
  tx: Transaction,
  context: GrantsContext,
  input: GrantInput,
  giver: Giver,
): Promise<{ grant: GrantReading; given: boolean }> {
  return storeOnce(tx, context, { input, giver, differing: differingField })
}

type Differing = (known: Grant, asked: Grant, now: Instant) => string | null

async function storeOnce(
  tx: Transaction,
  context: GrantsContext,
  { input, giver, differing }: { readonly input: GrantInput; readonly giver: Giver; readonly differing: Differing },
): Promise<{ grant: GrantReading; given: boolean }> {
  const now = await lockTime(tx, context, input.organizationId)
  const grant = grantOf(input, now)
  const [known] = await findGrantsById(tx, [input])
  if (known) {
    const field = differing(known, grant, now)
    if (field) {
      throw new DomainError('idempotency_conflict', `The id "${input.id}" names another grant: ${field} differs.`, { field })
    }
    return { grant: readingOf(known, now), given: false }
  }
  if (grant.amount !== null && grant.amount <= 0n) throw notPositive()
  if (grant.expiresAt !== null && grant.expiresAt <= grant.startsAt) {
    throw new DomainError('invalid_request', 'expires_at does not lie after the start.', { field: 'expires_at' })
  }
  await insertGrants(tx, [grant])
  await insertAuditEntry(tx, {
    organizationId: input.organizationId,
    ...giver,
    action: 'grant.given',
    target: grant.id,
    before: null,
    after: summaryOf(grant),
    at: context.clock.now(),
  })
  await publishEvent(tx, {
    organizationId: grant.organizationId,
    type: 'grant.created',
    key: `grant.created:${grant.id}`,
    data: eventOf(grant),
    occurredAt: now,
  })
  return { grant: readingOf(grant, now), given: true }
}

/**
 * Takes back what is left of a grant, or a part of it; what is used stays used, what is held stays held. A plan's allowance
 * follows the plan and is not revoked.
 * @param revocation `most` of it at most
 * @throws DomainError `not_found`; `conflict` for a plan's allowance, or a part of an unlimited grant; `idempotency_conflict`
 */
export async function revokeGrant(context: GivingContext, revocation: Revocation, giver: Giver): Promise<GrantReading> {
  return context.db.transaction((tx) => revokeGrantIn(tx, context, revocation, giver))
}

export type Revocation = {
  readonly organizationId: string
  readonly id: string
  /** null is all that is left. */
  readonly most: Quantity | null
  /** The request under the caller's Idempotency-Key: its repeat takes nothing back, and answers the grant as it is. */
  readonly request?: KeyedRequest | null
}

/** The same within a transaction of the caller's. */
export async function revokeGrantIn(
  tx: Transaction,
  context: GrantsContext,
  { organizationId, id, most, request = null }: Revocation,
  giver: Giver,
): Promise<GrantReading> {
  if (most !== null && most <= 0n) throw notPositive()
  const now = await lockTime(tx, context, organizationId)
  const [grant] = await findGrantsById(tx, [{ organizationId, id }])
  if (!grant) throw new DomainError('not_found', `There is no grant ${id}.`, { grant_id: id })
  const isRepeat = request !== null && !(await rememberRequest(tx, organizationId, request, context.clock.now())).isNew
  if (isRepeat) return readingOf(grant, now)
  if (grant.kind === 'plan') throw new DomainError('conflict', 'A plan’s allowance follows the plan; change the plan instead.')
  const changed = revoked(grant, most, now)
  await updateGrants(tx, [changed])
  await insertAuditEntry(tx, {
    organizationId,
    ...giver,
    action: 'grant.revoked',
    target: id,
    before: summaryOf(grant),
    after: summaryOf(changed),
    at: context.clock.now(),
  })
  await publishEvent(tx, {
    organizationId,
    type: 'grant.revoked',
    key: `grant.revoked:${id}:${formatQuantity(changed.revoked)}`,
    data: { ...eventOf(changed), revoked: quantityToJson(changed.revoked) },
    occurredAt: now,
  })
  return readingOf(changed, now)
}

/** Gives back what was revoked, e.g. after a dispute that was won; at most that. */
export async function restoreGrantIn(
  tx: Transaction,
  context: GrantsContext,
  { organizationId, id, most }: Revocation & { readonly most: Quantity },
  giver: Giver,
): Promise<void> {
  await lockTime(tx, context, organizationId)
  const [grant] = await findGrantsById(tx, [{ organizationId, id }])
  if (!grant) throw new DomainError('not_found', `There is no grant ${id}.`, { grant_id: id })
  const changed = { ...grant, revoked: grant.revoked - (most < grant.revoked ? most : grant.revoked) }
  await updateGrants(tx, [changed])
  const entry = { action: 'grant.restored', target: id, before: summaryOf(grant), after: summaryOf(changed) }
  await insertAuditEntry(tx, { organizationId, ...giver, ...entry, at: context.clock.now() })
}

/** Every grant of an organization, newest first, with what has become of it. @throws DomainError `not_found` */
export async function readGrants(context: GivingContext, organizationId: string): Promise<readonly GrantReading[]> {
  const { version, catalog } = context.catalogs.current
  const terms = { planKey: catalog.defaultPlanKey, catalogVersion: version }
  const [account] = await findAccounts(context.db, [organizationId], terms)
  if (!account) throw unknownOrganization(organizationId)
  const now = timeOf(account, context.clock.now())
  return (await listGrants(context.db, organizationId)).map((grant) => readingOf(grant, now))
}

async function lockTime(tx: Transaction, context: GrantsContext, organizationId: string): Promise<Instant> {
  const now = context.clock.now()
  const { version, catalog } = context.catalogs.current
  await insertMissingAccounts(tx, [organizationId], { planKey: catalog.defaultPlanKey, catalogVersion: version, now })
  const [account] = await lockAccounts(tx, [organizationId])
  if (!account) throw unknownOrganization(organizationId)
  return timeOf(account, now)
}

function notPositive(): DomainError {
  return new DomainError('invalid_quantity', 'amount is more than nothing, or null for unlimited.', { field: 'amount' })
}

function unknownOrganization(organizationId: string): DomainError {
  return new DomainError('not_found', `There is no organization ${organizationId}.`, { organization_id: organizationId })
}

/** Names of an organization's own terms, which may be earlier ones, and of the present catalog. */
async function checkNames(
  tx: Transaction,
  { catalogs }: GrantsContext,
  { organizationId, balanceKey, meters }: GrantInput,
): Promise<void> {
  const { version, catalog: present } = catalogs.current
  const [account] = await findAccounts(tx, [organizationId], { planKey: present.defaultPlanKey, catalogVersion: version })
  const catalog = await catalogs.get(account?.catalogVersion ?? version)
  if (!catalog.balances.has(balanceKey) && !present.balances.has(balanceKey)) {
    throw new DomainError('invalid_request', `The catalog has no balance "${balanceKey}".`, { field: 'balance' })
  }
  for (const meterKey of meters ?? []) {
    if (meterOf({ catalog, newerMeters: present.meters }, meterKey)?.balanceKey === balanceKey) continue
    throw new DomainError('invalid_request', `The meter "${meterKey}" does not draw from "${balanceKey}".`, { field: 'meters' })
  }
}

function grantOf(input: GrantInput, now: Instant): Grant {
  return {
    organizationId: input.organizationId,
    id: input.id,
    balanceKey: input.balanceKey,
    kind: input.kind,
    planKey: null,
    catalogVersion: null,
    amount: input.amount,
    limit: 'hard',
    ...UNTOUCHED,
    priority: input.priority ?? DEFAULT_PRIORITY[input.kind],
    meters: input.meters ?? null,
    startsAt: input.startsAt ?? now,
    expiresAt: input.expiresAt ?? null,
    reason: input.reason ?? null,
    createdAt: now,
  }
}

function differingField(known: Grant, asked: Grant): string | null {
  if (known.balanceKey !== asked.balanceKey) return 'balance'
  if (known.kind !== asked.kind) return 'kind'
  return known.amount === asked.amount ? null : 'amount'
}

/** The first of its terms in which a grant differs from what is asked for, by its name on the wire. */
function differingTerm(known: Grant, asked: Grant, now: Instant): string | null {
  if (!isSameEnd(known, asked.expiresAt, now)) return 'expires_at'
  if (known.priority !== asked.priority) return 'priority'
  if (meterNames(known.meters) !== meterNames(asked.meters)) return 'meters'
  return known.reason === asked.reason ? null : 'reason'
}

function isSameEnd({ amount, expiresAt: known }: Grant, asked: Instant | null, now: Instant): boolean {
  if (known?.getTime() === asked?.getTime()) return true
  // An unlimited grant that was revoked has ended then, sooner than was asked.
  return amount === null && known !== null && known <= now && (asked === null || known < asked)
}

function meterNames(meters: readonly string[] | null): string | null {
  return meters && JSON.stringify([...new Set(meters)].sort())
}

/** An unlimited grant has no rest to take back: it ends instead, whole. */
function revoked(grant: Grant, most: Quantity | null, now: Instant): Grant {
  const available = availableOf(grant)
  if (available === null && most !== null) {
    throw new DomainError('conflict', 'An unlimited grant has no part to take back; without an amount it ends.', {
      field: 'amount',
    })
  }
  if (available === null) return { ...grant, expiresAt: now }
  return { ...grant, revoked: grant.revoked + (most === null || available < most ? available : most) }
}

function readingOf(grant: Grant, now: Instant): GrantReading {
  return { ...grant, ...partsOf(grant, now) }
}

function eventOf(grant: Grant) {
  return {
    grant_id: grant.id,
    balance: grant.balanceKey,
    kind: grant.kind,
    amount: grant.amount === null ? null : quantityToJson(grant.amount),
    expires_at: grant.expiresAt?.toISOString() ?? null,
  }
}

function summaryOf(grant: Grant): Record<string, unknown> {
  return {
    balance: grant.balanceKey,
    kind: grant.kind,
    amount: grant.amount === null ? null : formatQuantity(grant.amount),
    revoked: formatQuantity(grant.revoked),
    expires_at: grant.expiresAt,
    reason: grant.reason,
  }
}
