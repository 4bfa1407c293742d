import { mkdirSync } from 'node:fs'
import { open, readFile, rename, writeFile, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { LocalQueue, QueuedUse } from './queue.ts'

type Line = { readonly add: QueuedUse } | { readonly remove: string }

/**
 * A queue in an append-only file, flushed to the disk before `append` resolves; it survives the process and the machine.
 * One process per file.
 */
export function createFileQueue(path: string): LocalQueue {
  mkdirSync(dirname(path), { recursive: true })
  let opening: Promise<{ file: FileHandle; uses: Map<string, QueuedUse> }> | undefined
  let writing: Promise<void> = Promise.resolve()
  let isTorn = false

  /** Reads what is there, and writes it anew without what was removed. */
  async function load() {
    const uses = new Map<string, QueuedUse>()
    const text = await readFile(path, 'utf8').catch(emptyWhereMissing)
    for (const line of text.split('\n')) {
      const parsed = parseLine(line)
      if (parsed === null) continue
      if ('add' in parsed) uses.set(parsed.add.idempotencyKey, parsed.add)
      else uses.delete(parsed.remove)
    }
    const kept = [...uses.values()].map((use) => `${JSON.stringify({ add: use })}\n`).join('')
    await writeFile(`${path}.new`, kept, { flush: true })
    await rename(`${path}.new`, path)
    return { file: await open(path, 'a'), uses }
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
      const { uses } = await ready()
      uses.set(use.idempotencyKey, use)
    },
    async list() {
      const { uses } = await ready()
      return [...uses.values()]
    },
    async remove(idempotencyKey) {
      const { uses } = await ready()
      uses.delete(idempotencyKey)
      await write({ remove: idempotencyKey })
    },
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
