import { mkdirSync } from 'node:fs'
import { open, readFile, rename, writeFile, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { LocalQueue, ParkedUse, QueuedUse } from './queue.ts'

type Line = { readonly add: QueuedUse } | { readonly remove: string } | { readonly park: ParkedUse }

type Held = { readonly uses: Map<string, QueuedUse>; readonly parked: Map<string, ParkedUse> }

/**
 * A queue in an append-only file, flushed to the disk before `append` resolves; it survives the process and the machine.
 * One process per file.
 */
export function createFileQueue(path: string): LocalQueue {
  mkdirSync(dirname(path), { recursive: true })
  let opening: Promise<Held & { readonly file: FileHandle }> | undefined
  let writing: Promise<void> = Promise.resolve()
  let isTorn = false

  /** Reads what is there, and writes it anew without what was removed. */
  async function load() {
    const held: Held = { uses: new Map(), parked: new Map() }
    const text = await readFile(path, 'utf8').catch(emptyWhereMissing)
    for (const line of text.split('\n')) {
      const parsed = parseLine(line)
      if (parsed !== null) take(held, parsed)
    }
    const lines: readonly Line[] = [
      ...[...held.uses.values()].map((add) => ({ add })),
      ...[...held.parked.values()].map((park) => ({ park })),
    ]
    const kept = lines.map((line) => `${JSON.stringify(line)}\n`).join('')
    await writeFile(`${path}.new`, kept, { flush: true })
    await rename(`${path}.new`, path)
    return { file: await open(path, 'a'), ...held }
  }

  function ready() {
    opening ??= load().catch((error: unknown) => {
      // The next use looks again.
      opening = undefined
      throw error
    })
    return opening
  }

  /** Lines are written one after another, each on the disk before the next. */
  async function write(line: Line): Promise<void> {
    const { file } = await ready()
    const written = writing.then(async () => {
      // A line that was written in part (a full disk) ends here, and takes none of the next with it.
      await file.appendFile(`${isTorn ? '\n' : ''}${JSON.stringify(line)}\n`)
      await file.datasync()
      isTorn = false
    })
    writing = written.catch(() => {
      isTorn = true
    })
    await written
  }

  return {
    async append(use) {
      await write({ add: use })
      take(await ready(), { add: use })
    },
    async list() {
      const { uses } = await ready()
      return [...uses.values()]
    },
    async remove(idempotencyKey) {
      take(await ready(), { remove: idempotencyKey })
      await write({ remove: idempotencyKey })
    },
    async park(use) {
      await write({ park: use })
      take(await ready(), { park: use })
    },
    async parked() {
      const { parked } = await ready()
      return [...parked.values()]
    },
  }
}

/** What a line means for what is held. */
function take({ uses, parked }: Held, line: Line): void {
  if ('add' in line) {
    parked.delete(line.add.idempotencyKey)
    uses.set(line.add.idempotencyKey, line.add)
  } else if ('park' in line) {
    uses.delete(line.park.idempotencyKey)
    parked.set(line.park.idempotencyKey, line.park)
  } else {
    uses.delete(line.remove)
    parked.delete(line.remove)
  }
}

/** A file that is there but cannot be read is not an empty one. */
function emptyWhereMissing(error: unknown): string {
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return ''
  throw error
}

/** A line that a crash cut short was never acknowledged, so it is left out. */
function parseLine(line: string): Line | null {
  if (line === '') return null
  try {
    return JSON.parse(line) as Line
  } catch {
    return null
  }
}
