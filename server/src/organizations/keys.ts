import { insertAuditEntry } from '../audit/store.ts'
import { makeApiKey, type ApiKeyInput } from '../auth/api-keys.ts'
import {
  endApiKeyAt,
  insertApiKey,
  listApiKeys,
  lockRequestedKey,
  replaceSecret,
  revokeApiKey,
  type ApiKey,
  type NewApiKey,
} from '../auth/store.ts'
import type { Transaction } from '../db/database.ts'
import { DomainError } from '../lib/errors.ts'
import type { ApiKeyId, OrganizationId } from '../lib/ids.ts'
import { HOUR_MS } from '../lib/period.ts'
import { refuseAnother, type KeyedRequest } from '../lib/sent-request.ts'
import { readOrganization, type Asker, type OrganizationsContext } from './actions.ts'

/** A key as it is shown once: `key` exists nowhere else afterwards. */
export type ShownKey = ApiKey & { readonly key: string }

/** Who asks, and the request under their Idempotency-Key; null without one. */
export type KeyAsker = Asker & { readonly request: KeyedRequest | null }

/**
 * Makes a key for an organization. The repeat of a request under its Idempotency-Key makes no second one: see `storeOnce`.
 * @throws DomainError `not_found`; `invalid_request` when it would expire before it exists; those of `storeOnce`
 */
export async function createKey(
  context: OrganizationsContext,
  input: ApiKeyInput,
  { request, ...asker }: KeyAsker,
): Promise<ShownKey> {
  const now = context.clock.now()
  if (input.expiresAt && input.expiresAt <= now) {
    throw new DomainError('invalid_request', 'expires_at lies in the past.', { field: 'expires_at' })
  }
  await readOrganization(context.db, input.organizationId)
  // bcrypt takes its time: before the transaction, not inside it.
  const { key, row } = await makeApiKey(context.keySecret, input, now)
  const stored = await storeOnce(context, { row, request, asker }, (tx) =>
    insertAuditEntry(tx, {
      organizationId: input.organizationId,
      ...asker,
      action: 'api_key.created',
      target: row.id,
      before: null,
      after: { name: row.name, scopes: row.scopes, display_prefix: row.displayPrefix, expires_at: row.expiresAt },
      at: now,
    }),
  )
  return { ...stored, key }
}

export type Rotation = {
  readonly organizationId: OrganizationId
  readonly id: ApiKeyId
  /** How long the old key works on, in hours; 0 ends it at once. */
  readonly overlapHours: number
}

/**
 * Makes a key that takes the place of another: of the same name and scopes, and living as long. The old one works on for the overlap,
 * so that applications can be changed one after the other. Rotated again meanwhile, it is replaced by another; the repeat of a
 * request under its Idempotency-Key makes no second one (`storeOnce`), and leaves the overlap as it is.
 * @throws DomainError `not_found` when there is no such live key; those of `storeOnce`
 */
export async function rotateKey(
  context: OrganizationsContext,
  { organizationId, id, overlapHours }: Rotation,
  { request, ...asker }: KeyAsker,
): Promise<ShownKey> {
  const missing = () => new DomainError('not_found', 'There is no such key that is live.')
  const old = (await listApiKeys(context.db, organizationId)).find((key) => key.id === id)
  if (!old) throw missing()
  const now = context.clock.now()
  const { createdAt, ownExpiresAt: ends } = old
  const expiresAt = ends === null ? null : new Date(now.getTime() + ends.getTime() - createdAt.getTime())
  const { key, row } = await makeApiKey(context.keySecret, { organizationId, name: old.name, scopes: old.scopes, expiresAt }, now)
  const endsAt = new Date(now.getTime() + overlapHours * HOUR_MS)
  const stored = await storeOnce(context, { row, request, asker }, async (tx) => {
    const before = await endApiKeyAt(tx, { organizationId, id }, { endsAt, now })
    if (before === null) throw missing()
    await insertAuditEntry(tx, {
      organizationId,
      ...asker,
      action: 'api_key.rotated',
      target: id,
      before: { display_prefix: old.displayPrefix, expires_at: before.expiresAt },
      after: { replaced_by: row.id, display_prefix: row.displayPrefix, ends_at: endsAt },
      at: now,
    })
  })
  return { ...stored, key }
}

type Making = { readonly row: NewApiKey; readonly request: KeyedRequest | null; readonly asker: Asker }

/**
 * Stores a key that was just made, with what goes with it; for the repeat of a request the key that it made gets the secret of this
 * one instead, and its former secret, which may never have arrived, is worth nothing. A key that was used did arrive: it stays as it is.
 * @throws DomainError `idempotency_conflict` when the Idempotency-Key was used for another request; `conflict` with the key's
 * `key_id` when it is in use, or has ended
 */
async function storeOnce(
  context: OrganizationsContext,
  { row, request, asker }: Making,
  andAlso: (tx: Transaction) => Promise<void>,
): Promise<ApiKey> {
  const { organizationId, createdAt: now } = row
  return context.db.transaction(async (tx) => {
    if ((await insertApiKey(tx, row, request)) || request === null) {
      await andAlso(tx)
      return { ...row, ownExpiresAt: row.expiresAt, revokedAt: null, firstUsedAt: null }
    }
    const { request: first, ...known } = await lockRequestedKey(tx, { organizationId, requestKey: request.key })
    refuseAnother(first, request)
    const isOver = known.revokedAt !== null || (known.expiresAt !== null && known.expiresAt <= now)
    if (isOver || known.firstUsedAt !== null) {
      const instead = isOver ? 'has ended: ask' : 'is in use, and a key is shown once: rotate it, or ask'
      const sentence = `This request made a key that ${instead} for another under another Idempotency-Key.`
      throw new DomainError('conflict', sentence, { key_id: known.id })
    }
    await replaceSecret(tx, { organizationId, id: known.id }, row)
    await insertAuditEntry(tx, {
      organizationId,
      ...asker,
      action: 'api_key.shown_again',
      target: known.id,
      before: { display_prefix: known.displayPrefix },
      after: { display_prefix: row.displayPrefix },
      at: now,
    })
    return { ...known, displayPrefix: row.displayPrefix }
  })
}

/** @throws DomainError `not_found` */
export async function listKeys(context: OrganizationsContext, organizationId: OrganizationId): Promise<readonly ApiKey[]> {
  await readOrganization(context.db, organizationId)
  return listApiKeys(context.db, organizationId)
}

/**
 * Revokes a key; every process refuses it within a second. Revoking it again changes nothing.
 * @throws DomainError `not_found`
 */
export async function revokeKey(
  context: OrganizationsContext,
  key: { organizationId: OrganizationId; id: ApiKeyId },
  asker: Asker,
): Promise<void> {
  const known = (await listApiKeys(context.db, key.organizationId)).find(({ id }) => id === key.id)
  if (!known) throw new DomainError('not_found', 'There is no such key.')
  const now = context.clock.now()
  await context.db.transaction(async (tx) => {
    if (!(await revokeApiKey(tx, key, now))) return
    await insertAuditEntry(tx, {
      organizationId: key.organizationId,
      ...asker,
      action: 'api_key.revoked',
      target: key.id,
      before: { name: known.name, scopes: known.scopes, display_prefix: known.displayPrefix },
      after: null,
      at: now,
    })
  })
}
