import type { Queryable } from '../db/database.ts'
import type { PacketClient } from '../db/packet.ts'
import { LOCK_ACCOUNTS, lockedAccounts, type AccountRow } from './store.ts'

/**
 * An account row as it was read, and the name of that version of it: where it lies, and the transaction that wrote it. Whatever changes
 * the row, or what it holds of its organization (`touch_account`), makes another version.
 */
export type AccountVersion = { readonly account: AccountRow; readonly place: string; readonly writer: string }

/** Locks accounts as `lockAccounts` does, and answers their versions as well. */
export async function lockAccountVersions(
  tx: PacketClient,
  organizationIds: readonly string[],
): Promise<readonly AccountVersion[]> {
  const values = [organizationIds.toSorted()]
  const [, found] = await Promise.all([
    tx.query({ ...LOCK_ACCOUNTS, values }),
    tx.query<AccountRow & Omit<AccountVersion, 'account'>>({
      name: 'read_account_versions',
      text: lockedAccounts(', a.ctid::text as place, a.xmin::text as writer'),
      values,
    }),
  ])
  return found.rows.map(({ place, writer, ...account }) => ({ account, place, writer }))
}

/**
 * Locks the accounts of which these versions are the present ones, and answers how many that is. A row that somebody else is changing
 * is waited for, and is another version then.
 * @param versions in the order of their organizations' ids, as everywhere
 */
export async function lockKnownVersions(tx: Queryable, versions: readonly AccountVersion[]): Promise<number> {
  if (versions.length === 1) return lockKnownVersion(tx, versions[0]!)
  const found = await tx.query<{ readonly locked: number }>({
    name: 'lock_known_versions',
    text: `select count(*)::int as locked from unnest($1::text[], $2::tid[], $3::xid[]) as known (id, place, writer) cross join lateral (
        select 1 from accounts a where a.ctid = known.place and a.xmin = known.writer and a.organization_id = known.id
        for no key update
      ) as account`,
    values: [
      versions.map(({ account }) => account.organizationId),
      versions.map(({ place }) => place),
      versions.map(({ writer }) => writer),
    ],
  })
  return found.rows[0]!.locked
}

/** The same of one account, as of a busy organization: 20 µs instead of 37. */
async function lockKnownVersion(tx: Queryable, { account, place, writer }: AccountVersion): Promise<number> {
  const found = await tx.query({
    name: 'lock_known_version',
    text: 'select 1 from accounts where ctid = $1::tid and xmin = $2::xid and organization_id = $3 for no key update',
    values: [place, writer, account.organizationId],
  })
  return found.rows.length
}
