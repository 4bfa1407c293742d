import { expect, test } from 'vitest'
import { GENESIS, hashOf, verifyChain, type Broken, type ChainedEntry, type ChainHead } from './rules.ts'

/** A chain as the server writes it, from contents. */
function chainOf(...contents: readonly string[]): { entries: ChainedEntry[]; head: ChainHead } {
  let previousHash: Buffer = GENESIS
  const entries = contents.map((content, index): ChainedEntry => {
    const position = BigInt(index + 1)
    const hash = hashOf(previousHash, content)
    const entry = { id: position * 10n, organizationId: 'acme', position, previousHash, hash, content }
    previousHash = hash
    return entry
  })
  return { entries, head: { organizationId: 'acme', position: BigInt(entries.length), hash: previousHash } }
}

function verify({ entries, head }: { entries: readonly ChainedEntry[]; head: ChainHead | null }): Broken | null {
  const verifier = verifyChain(head, 'acme')
  for (const entry of entries) {
    const broken = verifier.take(entry)
    if (broken !== null) return broken
  }
  return verifier.end()
}

test('a chain as it was written is whole', () => {
  expect(verify(chainOf('a', 'b', 'c'))).toBeNull()
})

test('an entry that was written anew with a hash of its own is found by the one after it, the last by the chain’s end', () => {
  const { entries, head } = chainOf('a', 'b', 'c')
  const rewritten = (index: number): ChainedEntry[] =>
    entries.map((entry, at) => {
      if (at !== index) return entry
      return { ...entry, content: 'forged', hash: hashOf(entry.previousHash!, 'forged') }
    })
  expect(verify({ entries: rewritten(1), head })).toMatchObject({ fault: 'changed', position: 3n })
  expect(verify({ entries: rewritten(2), head })).toMatchObject({ fault: 'cut', position: 3n })
})

test('an entry that is not the next of its chain is not taken for it', () => {
  const { entries, head } = chainOf('a', 'b', 'c')
  expect(verify({ entries: entries.toSpliced(1, 1), head })).toMatchObject({ fault: 'missing', id: 30n, position: 3n })
  expect(verify({ entries: entries.slice(0, 2), head })).toMatchObject({ fault: 'cut', position: 2n })
  expect(verify({ entries, head: null })).toMatchObject({ fault: 'cut' })
  const aside = { ...entries[1]!, position: null }
  expect(verify({ entries: [entries[0]!, aside], head })).toMatchObject({ fault: 'unchained', id: 20n })
  // The chain of somebody else, moved behind this one.
  const moved = { ...chainOf('x', 'y').entries[1]!, position: 4n }
  expect(verify({ entries: [...entries, moved], head })).toMatchObject({ fault: 'changed', position: 4n })
})
