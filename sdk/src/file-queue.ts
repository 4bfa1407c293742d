import { mkdirSync } from 'node:fs'
import { open, readFile, rename, type FileHandle } from 'node:fs/promises'
import { dirname } from 'node:path'
import { applyChange, nameOf, type HeldCalls, type LocalQueue, type QueueChange } from './queue.ts'

/**
 * A queue in an append-only file, flushed to the disk before `append` resolves; it survives the process and the machine.
 * One process per file. The file is open only while it is written, so a queue that is let go of leaves nothing behind.
 */
export function createFileQueue(path: string): LocalQueue {
  mkdirSync(dirname(path), { recursive: true })
  let opening: Promise<HeldCalls> | undefined
  let writing: Promise<void> = Promise.resolve()
  let isTorn = false

  /** Reads what is there, and writes it anew without what was removed. */
  async function load(): Promise<HeldCalls> {
    const held: HeldCalls = { waiting: new Map(), parked: new Map() }
    const text = await readFile(path, 'utf8').catch(emptyWhereMissing)
    for (const line of text.split('\n')) {
      const parsed = parseLine(line)
      if (parsed !== null) applyChange(held, parsed)
    }
    const lines: readonly QueueChange[] = [
      ...[...held.waiting.values()].map((add) => ({ add })),
      ...[...held.parked.values()].map((park) => ({ park })),
    ]
    const kept = lines.map((line) => `${JSON.stringify(line)}\n`).join('')
    await withFile(`${path}.new`, 'w', async (file) => {
      await file.writeFile(kept)
      await file.sync()
    })
    await rename(`${path}.new`, path)
    await syncFolder(dirname(path))
    return held
  }

  function ready() {
    opening ??= load().catch((error: unknown) => {
      // The next use looks again.
      opening = undefined
      throw error
    })
    return opening
  }

  /** Lines are written one after another, each on the disk before the next; what is in memory follows them in their order. */
  async function write(line: QueueChange): Promise<void> {
    const held = await ready()
    const written = writing.then(async () => {
      // A line that was written in part (a full disk) ends here, and takes none of the next with it.
      await withFile(path, 'a', async (file) => {
        await file.appendFile(`${isTorn ? '\n' : ''}${JSON.stringify(line)}\n`)
        await file.datasync()
      })
      isTorn = false
    })
    writing = written.catch(() => {
      isTorn = true
    })
    await written
    applyChange(held, line)
  }

  return {
    append: (call) => write({ add: call }),
    list: async () => [...(await ready()).waiting.values()],
    remove: (call) => write({ remove: nameOf(call) }),
    park: (call) => write({ park: call }),
    parked: async () => [...(await ready()).parked.values()],
  }
}

async function withFile(path: string, flags: string, work: (file: FileHandle) => Promise<void>): Promise<void> {
  const file = await open(path, flags)
  try {
    await work(file)
  } finally {
    await file.close()
  }
}

/** Without it a machine that loses its power may find the file under its name as it was before. */
async function syncFolder(path: string): Promise<void> {
  // Windows opens no folder, and keeps names itself.
  if (process.platform !== 'win32') await withFile(path, 'r', (folder) => folder.sync())
}

/** A file that is there but cannot be read is not an empty one. */
function emptyWhereMissing(error: unknown): string {
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return ''
  throw error
}

/** A line that a crash cut short was never acknowledged, so it is left out. */
function parseLine(line: string): QueueChange | null {
  if (line === '') return null
  try {
    return JSON.parse(line) as QueueChange
  } catch {
    return null
  }
}
