/** A document of one workspace, as it was ingested. */
export type Source = { readonly id: string; readonly name: string; readonly text: string }

/** The passage that answers a question, and where it is from. */
export type Answer = { readonly answer: string; readonly sources: readonly { readonly id: string; readonly name: string }[] }

/** The documents of every workspace, in memory. One workspace's are never seen from another. */
export class SourceIndex {
  readonly #workspaces = new Map<string, Source[]>()

  add(workspaceId: string, name: string, text: string): Source {
    const source = { id: `src_${crypto.randomUUID()}`, name, text }
    this.#workspaces.set(workspaceId, [...this.list(workspaceId), source])
    return source
  }

  list(workspaceId: string): readonly Source[] {
    return this.#workspaces.get(workspaceId) ?? []
  }

  /** Sentences that share the most words with the question, best first. Retrieval itself is not what this example is about. */
  ask(workspaceId: string, question: string): Answer {
    const wanted = new Set(wordsOf(question))
    const passages = this.list(workspaceId)
      .flatMap((source) => source.text.split(/(?<=[.!?])\s+/).map((sentence) => ({ source, sentence })))
      .map((passage) => ({ ...passage, score: wordsOf(passage.sentence).filter((word) => wanted.has(word)).length }))
      .filter(({ score }) => score > 0)
      .sort((a, b) => b.score - a.score)
    const best = passages[0]
    if (best === undefined) return { answer: 'Nothing that was ingested answers this.', sources: [] }
    return { answer: best.sentence, sources: [{ id: best.source.id, name: best.source.name }] }
  }
}

function wordsOf(text: string): string[] {
  return (text.toLowerCase().match(/\p{L}+/gu) ?? []).filter((word) => word.length > 3)
}
