import type { Db, Queryable } from '../db/database.ts'
import { backoffMs } from '../lib/backoff.ts'
import type { Clock, Instant } from '../lib/clock.ts'
import { derivedId } from '../lib/ids.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS } from '../lib/period.ts'
import { toStorable } from '../lib/storable.ts'
import { MailRefused, type Mailer } from './mailer.ts'
import { claimMails, insertMails, keepDueMails, markSent, markUnsent, type ClaimedMail } from './store.ts'

/** A mail about to be stored, to one recipient. */
export type NewMail = {
  /** Makes it once for its recipient: it says what it is about, e.g. `password_reset:<token's id>`. */
  readonly key: string
  /** null for mails to a person as such. */
  readonly organizationId: string | null
  /** What sort of mail it is, e.g. `trial`. */
  readonly kind: string
  readonly to: string
  readonly subject: string
  readonly text: string
  readonly html: string
  /** Whether it holds a link that must not stay in the database once it is sent; default false. */
  readonly secret?: boolean
}

/**
 * Stores mails, in the transaction of what they tell: both are there or neither. A mail whose key its recipient was sent already is left
 * out, so asking again is safe. They go out soon after the commit. Answers how many were new.
 */
export async function queueMails(tx: Queryable, mails: readonly NewMail[], now: Instant): Promise<number> {
  if (mails.length === 0) return 0
  const rows = mails.map(({ key, to, secret = false, ...mail }) => ({
    ...mail,
    id: derivedId('mail', key, to.toLowerCase()),
    recipient: to,
    holdsSecret: secret,
  }))
  return insertMails(tx, rows, now)
}

export type MailContext = {
  readonly db: Db
  readonly clock: Clock
  /** null keeps mails to be read by `tollgate mails`. */
  readonly mailer: Mailer | null
  /** Told of each mail that was sent or failed. */
  readonly onMail?: (outcome: 'sent' | 'retried' | 'failed') => void
}

/** Longer than sending takes, shorter than anybody waits for a mail. */
const LEASE_MS = 2 * MINUTE_MS
const BACKOFF = { firstMs: MINUTE_MS, mostMs: 2 * HOUR_MS }
/** A mail that could not be sent for so long is old news. */
const GIVE_UP_MS = 3 * DAY_MS
const AT_ONCE = 10

/**
 * Sends what is due and answers how many mails were taken up. Safe on any number of servers: a mail is claimed with a lease before it is
 * sent, and marked afterwards. A server that dies between the two sends it again, under the same Message-ID.
 */
export async function sendDueMails(context: MailContext): Promise<number> {
  const now = context.clock.now()
  if (context.mailer === null) return keepDueMails(context.db, now)
  const leaseEnd = new Date(now.getTime() + LEASE_MS)
  const mails = await claimMails(context.db, { now, leaseEnd, limit: AT_ONCE })
  const { mailer } = context
  await Promise.all(mails.map((mail) => sendOne(context, mailer, mail)))
  return mails.length
}

async function sendOne(context: MailContext, mailer: Mailer, mail: ClaimedMail): Promise<void> {
  const { id, recipient: to, subject, text, html, attempts, createdAt } = mail
  try {
    await mailer.send({ id, to, subject, text, html })
  } catch (error) {
    const now = context.clock.now()
    const given = error instanceof MailRefused || now.getTime() - createdAt.getTime() >= GIVE_UP_MS
    const nextAttemptAt = given ? now : new Date(now.getTime() + backoffMs(attempts, BACKOFF, id))
    const words = error instanceof Error ? error.message : String(error)
    await markUnsent(context.db, {
      id,
      error: toStorable(words.slice(0, 500)),
      state: given ? 'failed' : 'pending',
      nextAttemptAt,
    })
    context.onMail?.(given ? 'failed' : 'retried')
    return
  }
  await markSent(context.db, id, context.clock.now())
  context.onMail?.('sent')
}
