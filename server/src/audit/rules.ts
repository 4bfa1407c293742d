import { createHash } from 'node:crypto'

/** An entry as it stands in its chain: the one of its organization, or that of the entries of none (null). */
export type ChainedEntry = {
  readonly id: bigint
  readonly organizationId: string | null
  /** From 1; null for an entry that was brought in without being chained. */
  readonly position: bigint | null
  readonly previousHash: Buffer | null
  readonly hash: Buffer | null
  /** All that the entry says, as it was hashed. */
  readonly content: string
}

/** Where a chain ends, according to the server. */
export type ChainHead = { readonly organizationId: string | null; readonly position: bigint; readonly hash: Buffer }

/**
 * `changed`: the entry does not say what it said. `missing`: entries before it are gone. `unchained`: it was brought in from
 * aside. `cut`: entries after it, at the end of its chain, are gone.
 */
export type Fault = 'changed' | 'missing' | 'unchained' | 'cut'

export type Broken = {
  readonly fault: Fault
  readonly organizationId: string | null
  /** The first entry that is not as it should be; null when a whole chain is gone. */
  readonly id: bigint | null
  readonly position: bigint
}

/** What comes before a chain's first entry. */
export const GENESIS = Buffer.alloc(32)

/** The hash of an entry: SHA-256 over the hash before it and its content in UTF-8. */
export function hashOf(previousHash: Buffer, content: string): Buffer {
  return createHash('sha256').update(previousHash).update(content).digest()
}

export type ChainVerifier = {
  /** Takes the next entry of the chain; answers what is wrong with it, or null. */
  take(entry: ChainedEntry): Broken | null
  /** Answers what is wrong with the chain's end, or null. */
  end(): Broken | null
}

/** Goes along one chain, from its first entry. Pure but for its place in the chain. */
export function verifyChain(head: ChainHead | null, organizationId: string | null): ChainVerifier {
  let last: { readonly id: bigint | null; readonly position: bigint; readonly hash: Buffer } = {
    id: null,
    position: 0n,
    hash: GENESIS,
  }
  const broken = (fault: Fault, { id, position }: { id: bigint | null; position: bigint | null }): Broken => ({
    fault,
    organizationId,
    id,
    position: position ?? last.position + 1n,
  })
  return {
    take(entry) {
      const { id, position, previousHash, hash, content } = entry
      if (position === null || previousHash === null || hash === null) return broken('unchained', entry)
      if (position !== last.position + 1n) return broken('missing', entry)
      if (!previousHash.equals(last.hash) || !hashOf(previousHash, content).equals(hash)) return broken('changed', entry)
      last = { id, position, hash }
      return null
    },
    end: () => (head !== null && head.position === last.position && head.hash.equals(last.hash) ? null : broken('cut', last)),
  }
}
