import type { Db } from '../db/database.ts'
import { verifyChain, type Broken, type ChainVerifier } from './rules.ts'
import { fetchChains, openChains, type ChainRow } from './store.ts'

export type Verification = {
  /** How many entries were found to be as they were written. */
  readonly entries: number
  readonly chains: number
  /** The first entry that is not; null when all are. */
  readonly broken: Broken | null
}

const ROWS_AT_ONCE = 1_000

/** Verifies every chain of the audit log, or that of one organization, in one snapshot. Stops at the first fault. */
export async function verifyAuditLog(db: Pick<Db, 'transaction'>, organizationId: string | null): Promise<Verification> {
  return db.transaction(async (tx) => {
    await openChains(tx, organizationId)
    const walk = createWalk()
    for (;;) {
      const rows = await fetchChains(tx, ROWS_AT_ONCE)
      if (rows.length === 0) return walk.end()
      for (const row of rows) if (walk.take(row) !== null) return walk.end()
    }
  })
}

/** Goes along all chains, one after the other. */
function createWalk() {
  let entries = 0
  let chains = 0
  let broken: Broken | null = null
  let current: { readonly organizationId: string | null; readonly verifier: ChainVerifier } | null = null

  function begin({ organizationId, position, hash, content }: ChainRow): void {
    broken ??= current?.verifier.end() ?? null
    if (broken !== null) return
    // Without a head in front, the chain's end was taken away.
    const head = content === null ? { organizationId, position: position!, hash: hash! } : null
    current = { organizationId, verifier: verifyChain(head, organizationId) }
    chains += 1
  }

  return {
    take(row: ChainRow): Broken | null {
      if (current === null || current.organizationId !== row.organizationId || row.content === null) begin(row)
      if (broken !== null || row.content === null || row.id === null) return broken
      broken = current!.verifier.take({ ...row, id: row.id, content: row.content })
      if (broken === null) entries += 1
      return broken
    },
    end(): Verification {
      broken ??= current?.verifier.end() ?? null
      return { entries, chains, broken }
    },
  }
}
