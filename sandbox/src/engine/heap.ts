/** An entry of the timeline: `key` is `rule:object id`; entries are ordered by time, then rule order, then sequence. */
export interface Entry {
  readonly due: number
  readonly order: number
  readonly sequence: number
  readonly key: string
}

function before(left: Entry, right: Entry): boolean {
  if (left.due !== right.due) return left.due < right.due
  if (left.order !== right.order) return left.order < right.order
  return left.sequence < right.sequence
}

/** A binary heap whose first entry is the earliest. */
export class Heap {
  private readonly entries: Entry[] = []

  get size(): number {
    return this.entries.length
  }

  peek(): Entry | undefined {
    return this.entries[0]
  }

  push(entry: Entry): void {
    let at = this.entries.length
    this.entries.push(entry)
    while (at > 0) {
      const parent = (at - 1) >> 1
      const above = this.entries[parent]
      if (above === undefined || !before(entry, above)) break
      this.entries[at] = above
      at = parent
    }
    this.entries[at] = entry
  }

  pop(): Entry | undefined {
    const first = this.entries[0]
    const last = this.entries.pop()
    if (last !== undefined && this.entries.length > 0) this.sink(last)
    return first
  }

  private sink(entry: Entry): void {
    const { entries } = this
    let at = 0
    for (;;) {
      let child = at * 2 + 1
      const right = entries[child + 1]
      let lower = entries[child]
      if (lower === undefined) break
      if (right !== undefined && before(right, lower)) {
        child += 1
        lower = right
      }
      if (!before(lower, entry)) break
      entries[at] = lower
      at = child
    }
    entries[at] = entry
  }
}
