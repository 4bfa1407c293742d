import type { Db } from '../db/database.ts'
import { DomainError } from '../lib/errors.ts'
import type { Seal } from '../lib/seal.ts'
import { NOTIFICATION_KINDS, notificationKinds, type NotificationKind } from './kinds.ts'
import { mayDecline } from './mails.ts'
import { BILLING_ADDRESS, listChoices, upsertChoice, type Choice } from './preference-store.ts'

/** What the routes of notifications work with. */
export type NotificationsContext = {
  readonly db: Db
  /** Of the links that decline mails. */
  readonly seal: Seal
  /** Where an organization's people see their billing. */
  readonly billingUrl: string
}

/** What of mails a recipient gets: by kind, whether it is wanted, and whether it can be declined. */
export type Preference = {
  readonly kind: NotificationKind
  readonly summary: string
  readonly wanted: boolean
  readonly canDecline: boolean
}

export async function readPreferences(db: Db, organizationId: string, recipient: string): Promise<readonly Preference[]> {
  const choices = await listChoices(db, organizationId, [recipient])
  return NOTIFICATION_KINDS.map((kind) => {
    const canDecline = mayDecline(kind, recipient)
    const chosen = choices.find((choice) => choice.kind === kind)?.wanted ?? recipient === BILLING_ADDRESS
    return { kind, summary: notificationKinds[kind].summary, wanted: chosen || !canDecline, canDecline }
  })
}

/** @throws DomainError `invalid_request` when it cannot be declined */
export async function choose(db: Db, choice: Choice): Promise<void> {
  if (!choice.wanted && !mayDecline(choice.kind, choice.recipient)) {
    throw new DomainError('invalid_request', 'The billing address is told about open payments in any case.', { field: 'wanted' })
  }
  await upsertChoice(db, choice)
}

type Named = Pick<Choice, 'organizationId' | 'recipient' | 'kind'>

/** What a link in a mail says: who declines what. Nobody else can make one. */
export function stopToken(seal: Seal, { organizationId, recipient, kind }: Named): string {
  return seal.close(JSON.stringify([organizationId, recipient, kind])).toString('base64url')
}

/** @throws DomainError `invalid_request` for a token that is none of ours */
export function readStopToken(seal: Seal, token: string): Named {
  try {
    const [organizationId, recipient, kind] = JSON.parse(seal.open(Buffer.from(token, 'base64url'))) as [
      string,
      string,
      NotificationKind,
    ]
    return { organizationId, recipient, kind }
  } catch {
    throw new DomainError('invalid_request', 'This link is not complete.', { field: 'token' })
  }
}
