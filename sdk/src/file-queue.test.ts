import { existsSync, mkdtempSync, readdirSync, readlinkSync, rmSync, symlinkSync } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { createFileQueue } from './file-queue.ts'
import { nameOf, type QueuedUse } from './queue.ts'

const directory = mkdtempSync(join(tmpdir(), 'tollgate-file-queue-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const useOf = (idempotencyKey: string): QueuedUse => ({ meter: 'calls', quantity: 1, idempotencyKey })
const keysOf = async (path: string) => (await createFileQueue(path).list()).map(nameOf)

/** What a link leads to; nothing where it has gone meanwhile. */
function linkOf(path: string): readonly string[] {
  try {
    return [readlinkSync(path)]
  } catch {
    return []
  }
}

describe('a queue in a file', () => {
  it('loses nothing to a line that a full disk has cut', async () => {
    const path = join(directory, 'cut')
    const queue = createFileQueue(path)
    await queue.append(useOf('a'))
    const handle = await open(join(directory, 'other'), 'a')
    const prototype = Object.getPrototypeOf(handle) as FileHandle
    const cut = vi.spyOn(prototype, 'appendFile').mockImplementationOnce(async function (this: FileHandle, text) {
      if (typeof text === 'string') await this.write(text.slice(0, 20))
      throw new Error('ENOSPC')
    })
    await expect(queue.append(useOf('torn'))).rejects.toThrow('ENOSPC')
    cut.mockRestore()
    await handle.close()
    await queue.append(useOf('b'))
    await queue.append(useOf('c'))
    expect(await keysOf(path)).toEqual(['a', 'b', 'c'])
  })

  it('says that it keeps a call only when that is on the disk', async () => {
    const handle = await open(join(directory, 'other'), 'a')
    const flush = vi.spyOn(Object.getPrototypeOf(handle) as FileHandle, 'datasync').mockRejectedValueOnce(new Error('EIO'))
    const queue = createFileQueue(join(directory, 'unflushed'))
    await expect(queue.append(useOf('a'))).rejects.toThrow('EIO')
    expect(await queue.list()).toEqual([])
    await queue.append(useOf('b'))
    expect(flush).toHaveBeenCalledTimes(2)
    flush.mockRestore()
    await handle.close()
  })

  // What a runtime closes while it collects garbage is an error in Bun, and will be in Node. Only Linux tells what is open.
  it.runIf(existsSync('/proc/self/fd'))('leaves no file open', async () => {
    const path = join(directory, 'let-go')
    const queue = createFileQueue(path)
    await queue.append(useOf('a'))
    await queue.remove(useOf('a'))
    const open = readdirSync('/proc/self/fd').flatMap((fd) => linkOf(`/proc/self/fd/${fd}`))
    expect(open.length).toBeGreaterThan(0)
    expect(open.filter((file) => file.startsWith(path))).toEqual([])
  })

  it('that cannot be read is not taken for an empty one', async () => {
    const path = join(directory, 'unreadable')
    // A link to itself: it cannot be read, but replaced.
    symlinkSync(path, path)
    await expect(keysOf(path)).rejects.toThrow('ELOOP')
  })
})
