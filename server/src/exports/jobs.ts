import { isConnectionError } from '../db/database.ts'
import { startLoop, type Loop } from '../jobs/loop.ts'
import type { Job } from '../jobs/scheduler.ts'
import { DomainError } from '../lib/errors.ts'
import { MINUTE_MS } from '../lib/period.ts'
import type { Log } from '../stripe/log.ts'
import { contentOf, type ExportContext } from './content.ts'
import { claimExport, deleteExpired, finishExport, insertChunk, saveProgress, type Export } from './store.ts'

/** A process that does not say for this long that it is at work has died. */
const LEASE_MS = MINUTE_MS
const CHUNK_BYTES = 256 * 1024
/** Progress is saved after so many more rows or documents. */
const SAVED_EVERY = 50
const ATTEMPTS_AT_MOST = 5
const POLL_MS = 5_000

export type ExportJobsContext = ExportContext & { readonly log: Log }

/** Makes files for as long as the server runs. */
export function startExportWorker(context: ExportJobsContext): Loop {
  return startLoop({
    run: () => makeNextExport(context),
    pollMs: POLL_MS,
    onFailure: (error) => context.log.warn({ err: error }, 'exports cannot be made now; they are tried again'),
  })
}

export function exportJobs({ db, clock }: ExportContext): readonly Job[] {
  return [{ name: 'exports.expiry', cron: '41 * * * *', run: async () => void (await deleteExpired(db, clock.now())) }]
}

/** Makes the oldest export that is due. Answers how many it made: 1 or 0. */
export async function makeNextExport(context: ExportJobsContext): Promise<number> {
  const { db, clock } = context
  const now = clock.now()
  const claimed = await db.transaction((tx) => claimExport(tx, now, leaseFrom(context)))
  if (claimed === null) return 0
  try {
    const result = await writeFile(context, claimed)
    if (result !== null) await finishExport(db, claimed, { ...result, error: null, now: clock.now() })
  } catch (error) {
    // With the database away the lease runs out, and the export begins anew.
    if (isConnectionError(error) && claimed.attempt < ATTEMPTS_AT_MOST) throw error
    context.log.error(
      { event: 'exports.failed', export_id: claimed.id, kind: claimed.kind, err: error },
      'an export could not be made',
    )
    const words = error instanceof DomainError ? error.message : 'The file could not be made; the log says why.'
    await finishExport(db, claimed, { made: 0, bytes: 0, error: words, now: clock.now() })
  }
  return 1
}

function leaseFrom({ clock }: ExportJobsContext): Date {
  return new Date(clock.now().getTime() + LEASE_MS)
}

/** Writes the file in pieces; null when another process took the export over meanwhile. */
async function writeFile(context: ExportJobsContext, claimed: Export): Promise<{ made: number; bytes: number } | null> {
  const { db } = context
  const { planned, pieces } = await contentOf(context, claimed)
  const save = (made: number): Promise<boolean> => saveProgress(db, claimed, { made, planned, leaseUntil: leaseFrom(context) })
  if (!(await save(0))) return null
  let [waiting, waitingBytes, bytes, number, made, saved]: [Buffer[], number, number, number, number, number] = [
    [],
    0,
    0,
    0,
    0,
    0,
  ]
  const flush = async (): Promise<void> => {
    if (waitingBytes === 0) return
    await insertChunk(db, claimed, number, Buffer.concat(waiting))
    number += 1
    ;[waiting, waitingBytes] = [[], 0]
  }
  for await (const piece of pieces) {
    waiting.push(piece.data)
    waitingBytes += piece.data.length
    bytes += piece.data.length
    made = piece.made
    const isFull = waitingBytes >= CHUNK_BYTES
    if (isFull) await flush()
    if (!isFull && made - saved < SAVED_EVERY) continue
    if (!(await save(made))) return null
    saved = made
  }
  await flush()
  return { made, bytes }
}
