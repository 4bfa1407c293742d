import { open, type FileHandle } from 'node:fs/promises'
import type { ForwardedUse, Sink } from './sink.ts'

const EVENTS_AT_ONCE = 500

/** Use as JSON lines: an `id` to tell repeats by, and quantities as texts, so that no reader rounds them. */
export function toLines(batch: readonly ForwardedUse[]): string {
  return batch
    .map(
      (use) =>
        `${JSON.stringify({
          id: use.id,
          organization_id: use.organizationId,
          meter: use.meter,
          quantity: use.quantity,
          occurred_at: use.occurredAt.toISOString(),
          recorded_at: use.recordedAt.toISOString(),
          properties: use.properties,
        })}\n`,
    )
    .join('')
}

/** Posts JSON lines to an address. Idempotency-Key names the batch: its first and last event. */
export function createHttpSink({ url, key }: { readonly url: string; readonly key: string | null }): Sink {
  return {
    name: 'http',
    batchSize: EVENTS_AT_ONCE,
    async deliver(batch, signal) {
      const response = await fetch(url, {
        method: 'POST',
        headers: {
          'content-type': 'application/x-ndjson',
          'idempotency-key': `${batch[0]!.id}/${batch.at(-1)!.id}`,
          ...(key === null ? {} : { authorization: `Bearer ${key}` }),
        },
        body: toLines(batch),
        signal,
      })
      await response.body?.cancel()
      if (!response.ok) throw new Error(`The receiver answered ${response.status}.`)
      return []
    },
  }
}

/**
 * Appends JSON lines to a file; they are on the disk before the cursor moves. A crash in between writes a batch twice, and may leave half a line
 * before it.
 */
export function createFileSink({ path }: { readonly path: string }): Sink {
  return {
    name: 'file',
    batchSize: EVENTS_AT_ONCE,
    async deliver(batch) {
      const file = await open(path, 'a+')
      try {
        await file.appendFile(`${(await endsTorn(file)) ? '\n' : ''}${toLines(batch)}`)
        await file.datasync()
      } finally {
        await file.close()
      }
      return []
    },
  }
}

/** Whether the last line of a file was not written whole. */
async function endsTorn(file: FileHandle): Promise<boolean> {
  const { size } = await file.stat()
  if (size === 0) return false
  const { buffer } = await file.read({ buffer: Buffer.alloc(1), position: size - 1 })
  return buffer.toString() !== '\n'
}
