import { isConnectionError } from '../db/database.ts'
import { startLoop, type Loop } from '../jobs/loop.ts'
import type { Job } from '../jobs/scheduler.ts'
import { DomainError } from '../lib/errors.ts'
import { MINUTE_MS } from '../lib/period.ts'
import type { Log } from '../stripe/log.ts'
import { contentOf, type ExportContext } from './content.ts'
import {
  claimExport,
  deleteExpired,
  failAbandoned,
  finishExport,
  giveBack,
  insertChunk,
  saveProgress,
  type Export,
} from './store.ts'

/** A process that does not say for this long that it is at work has died. */
const LEASE_MS = MINUTE_MS
const CHUNK_BYTES = 256 * 1024
/** Progress is saved after so many more rows or documents. */
const SAVED_EVERY = 50
const ATTEMPTS_AT_MOST = 5
const POLL_MS = 5_000
const ABANDONED = 'The file could not be made: each attempt ended before its time. Ask for a shorter span.'

export type ExportJobsContext = ExportContext & { readonly log: Log }

/** Makes files for as long as the server runs. */
export function startExportWorker(context: ExportJobsContext): Loop {
  return startLoop({
    run: (stopping) => makeNextExport(context, stopping),
    pollMs: POLL_MS,
    onFailure: (error) => context.log.warn({ err: error }, 'exports cannot be made now; they are tried again'),
  })
}

export function exportJobs({ db, clock }: ExportContext): readonly Job[] {
  return [{ name: 'exports.expiry', cron: '41 * * * *', run: async () => void (await deleteExpired(db, clock.now())) }]
}

/** Makes the oldest export that is due, or gives it back once `stopping`. Answers how many it took: 1 or 0. */
export async function makeNextExport(context: ExportJobsContext, stopping?: AbortSignal): Promise<number> {
  const { db, clock } = context
  const now = clock.now()
  const claimed = await db.transaction(async (tx) => {
    const abandoned = await failAbandoned(tx, now, { attempts: ATTEMPTS_AT_MOST, error: ABANDONED })
    for (const id of abandoned)
      context.log.error({ event: 'exports.failed', export_id: id }, 'an export was given up: no attempt came to its end')
    return claimExport(tx, now, leaseFrom(context))
  })
  if (claimed === null) return 0
  try {
    const result = await writeFile(context, claimed, stopping)
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

/** Says that this attempt is at work for as long as it gathers what the file is made of, before there is any progress to save. */
async function keepingLease<Result>(context: ExportJobsContext, claimed: Export, work: () => Promise<Result>): Promise<Result> {
  const renew = (): void => {
    saveProgress(context.db, claimed, { made: 0, planned: null, leaseUntil: leaseFrom(context) }).catch((error: unknown) =>
      context.log.warn({ err: error, export_id: claimed.id }, 'the lease of an export could not be renewed'),
    )
  }
  const timer = setInterval(renew, LEASE_MS / 3)
  try {
    return await work()
  } finally {
    clearInterval(timer)
  }
}

/** Writes the file in pieces; null when another process took the export over meanwhile, or when it was given back. */
async function writeFile(
  context: ExportJobsContext,
  claimed: Export,
  stopping: AbortSignal | undefined,
): Promise<{ made: number; bytes: number } | null> {
  const { db } = context
  const { planned, pieces } = await keepingLease(context, claimed, () => contentOf(context, claimed))
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
    if (stopping?.aborted === true) {
      await giveBack(db, claimed)
      return null
    }
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
