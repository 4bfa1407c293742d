import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'

export type MailState = 'pending' | 'sent' | 'kept' | 'failed'

export type MailRow = {
  readonly id: string
  readonly organizationId: string | null
  readonly kind: string
  readonly recipient: string
  readonly subject: string
  readonly text: string | null
  readonly html: string | null
  readonly state: MailState
  readonly attempts: number
  readonly lastError: string | null
  readonly createdAt: Instant
  readonly finishedAt: Instant | null
}

const COLUMNS = `id, organization_id as "organizationId", kind, recipient, subject, text_body as text, html_body as html, state, attempts,
  last_error as "lastError", created_at as "createdAt", finished_at as "finishedAt"`

export type MailInsert = Pick<MailRow, 'id' | 'organizationId' | 'kind' | 'recipient' | 'subject' | 'text' | 'html'> & {
  readonly holdsSecret: boolean
}

/** Those that are known already are left as they are; answers how many were new. */
export async function insertMails(tx: Queryable, mails: readonly MailInsert[], now: Instant): Promise<number> {
  const { rowCount } = await tx.query(
    `insert into mails (id, organization_id, kind, recipient, subject, text_body, html_body, holds_secret, state, created_at, next_attempt_at)
     select id, "organizationId", kind, recipient, subject, text, html, "holdsSecret", 'pending', $2, $2
     from jsonb_to_recordset($1) as row (id text, "organizationId" text, kind text, recipient text, subject text, text text, html text,
       "holdsSecret" boolean)
     on conflict do nothing`,
    [JSON.stringify(mails), now],
  )
  return rowCount ?? 0
}

export type ClaimedMail = Pick<MailRow, 'id' | 'recipient' | 'subject' | 'attempts' | 'createdAt'> & {
  readonly text: string
  readonly html: string
}

/** Takes the next mails that are due until `leaseEnd`: nobody else takes them before, and somebody does if this process dies. */
export async function claimMails(
  db: Queryable,
  { now, leaseEnd, limit }: { now: Instant; leaseEnd: Instant; limit: number },
): Promise<readonly ClaimedMail[]> {
  const { rows } = await db.query<ClaimedMail>(
    `update mails set attempts = attempts + 1, next_attempt_at = $2
     where id in (
       select id from mails where state = 'pending' and next_attempt_at <= $1
       order by next_attempt_at limit $3 for update skip locked
     )
     returning id, recipient, subject, text_body as text, html_body as html, attempts, created_at as "createdAt"`,
    [now, leaseEnd, limit],
  )
  return rows
}

/** A secret is not kept once it was sent. */
export async function markSent(db: Queryable, id: string, now: Instant): Promise<void> {
  await db.query(
    `update mails set state = 'sent', finished_at = $2, last_error = null,
       text_body = case when holds_secret then null else text_body end,
       html_body = case when holds_secret then null else html_body end
     where id = $1 and state = 'pending'`,
    [id, now],
  )
}

export async function markUnsent(
  db: Queryable,
  failure: { readonly id: string; readonly error: string; readonly state: 'pending' | 'failed'; readonly nextAttemptAt: Instant },
): Promise<void> {
  await db.query(
    `update mails set state = $3, last_error = $2, next_attempt_at = $4, finished_at = case when $3 = 'failed' then $4::timestamptz end
     where id = $1 and state = 'pending'`,
    [failure.id, failure.error, failure.state, failure.nextAttemptAt],
  )
}

/** Without a server to send them, mails are kept to be read here. */
export async function keepDueMails(db: Queryable, now: Instant): Promise<number> {
  const { rowCount } = await db.query(
    `update mails set state = 'kept', finished_at = $1 where state = 'pending' and next_attempt_at <= $1`,
    [now],
  )
  return rowCount ?? 0
}

/** Makes a mail that failed or was kept due again; false when there is none that still has its text. */
export async function reopenMail(db: Queryable, id: string, now: Instant): Promise<boolean> {
  const { rowCount } = await db.query(
    `update mails set state = 'pending', attempts = 0, next_attempt_at = $2, finished_at = null
     where id = $1 and text_body is not null and state in ('failed', 'kept', 'pending')`,
    [id, now],
  )
  return rowCount === 1
}

export type MailQuery = {
  readonly organizationId: string | null
  readonly recipient: string | null
  readonly state: MailState | null
  /** The mail after which to go on. */
  readonly after?: string | null
  readonly limit: number
}

/** Newest first. */
export async function listMails(db: Queryable, query: MailQuery): Promise<readonly MailRow[]> {
  const { rows } = await db.query<MailRow>(
    `select ${COLUMNS} from mails
     where ($1::text is null or organization_id = $1) and ($2::text is null or recipient = $2) and ($3::text is null or state = $3)
       and ($4::text is null or (created_at, id) < (select created_at, id from mails where id = $4))
     order by created_at desc, id desc limit $5`,
    [query.organizationId, query.recipient, query.state, query.after ?? null, query.limit],
  )
  return rows
}

export async function findMail(db: Queryable, id: string): Promise<MailRow | null> {
  const { rows } = await db.query<MailRow>(`select ${COLUMNS} from mails where id = $1`, [id])
  return rows[0] ?? null
}

/** Forgets mails that are older than `before` and do not wait. Answers how many, at most `limit`. */
export async function deleteOldMails(db: Queryable, before: Instant, limit: number): Promise<number> {
  const { rowCount } = await db.query(
    `delete from mails where ctid = any(array(select ctid from mails where created_at < $1 and state <> 'pending' limit $2))`,
    [before, limit],
  )
  return rowCount ?? 0
}
