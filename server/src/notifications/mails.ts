import type { Queryable } from '../db/database.ts'
import type { EventRow } from '../events/store.ts'
import type { EventData } from '../events/types.ts'
import { queueMails, type NewMail } from '../mail/actions.ts'
import { renderMail } from '../mail/layout.ts'
import type { Instant } from '../lib/clock.ts'
import { DAY_MS } from '../lib/period.ts'
import { notificationKinds, type NotificationKind } from './kinds.ts'
import { BILLING_ADDRESS, listAddressees, type Addressee } from './preference-store.ts'
import { kindOf, messageOf, type Message } from './templates.ts'

export type MailingContext = {
  /** Where an organization's people see their billing. */
  readonly billingUrl: string
  /** The page on which mails of a kind are declined. */
  /** Told of a mail that could not be written: a mistake of ours, which must not keep everything else from being told. */
  readonly onUnwritable: (eventId: string, error: unknown) => void
  readonly stopUrl: (choice: { organizationId: string; recipient: string; kind: NotificationKind }) => string
}

/** Older news than this are nobody's news: what an import brings to light is not mailed. */
const NEWS_MS = 7 * DAY_MS

type Told = Pick<EventRow, 'organizationId' | 'id' | 'type' | 'data' | 'occurredAt'>

/** Stores the mails that follow from events, in the transaction that hands them out; one to each address that wants its kind. */
export async function enqueueMails(tx: Queryable, context: MailingContext, events: readonly Told[], now: Instant): Promise<void> {
  const mailed = highestThresholds(events).filter(({ type }) => kindOf(type) !== null)
  if (mailed.length === 0) return
  const addressees = await listAddressees(tx, [...new Set(mailed.map(({ organizationId }) => organizationId))])
  const mails: NewMail[] = []
  for (const event of mailed) {
    for (const addressee of addressees) {
      if (addressee.organizationId !== event.organizationId || !isNews(event, addressee, now)) continue
      try {
        const mail = await mailTo(context, event, addressee)
        if (mail !== null) mails.push(mail)
      } catch (error) {
        context.onUnwritable(event.id, error)
      }
    }
  }
  await queueMails(tx, mails, now)
}

/** Of the thresholds of one allowance that are reached at once, the highest: the others are in what it says. */
function highestThresholds(events: readonly Told[]): readonly Told[] {
  const highest = new Map<string, number>()
  const levels = events.map((event) => {
    if (event.type !== 'usage.threshold_reached') return null
    const { grant_id: grantId, percent } = event.data as EventData<'usage.threshold_reached'>
    const name = `${event.organizationId}\n${grantId}`
    highest.set(name, Math.max(highest.get(name) ?? 0, percent))
    return { name, percent }
  })
  return events.filter((_event, index) => {
    const level = levels[index]!
    return level === null || level.percent === highest.get(level.name)
  })
}

function isNews({ occurredAt }: Told, { testClockNow }: Addressee, now: Instant): boolean {
  return (testClockNow ?? now).getTime() - occurredAt.getTime() < NEWS_MS
}

async function mailTo(context: MailingContext, event: Told, addressee: Addressee): Promise<NewMail | null> {
  const { organizationId, organizationName: name, recipient, email, choices } = addressee
  const kind = kindOf(event.type)
  if (kind === null || !isWanted(kind, recipient, choices)) return null
  const message = messageOf(event.type, event.data, { name, billingUrl: context.billingUrl })
  if (message === null) return null
  const stopUrl = mayDecline(kind, recipient) ? context.stopUrl({ organizationId, recipient, kind }) : null
  return { key: event.id, organizationId, kind, to: email, ...(await renderNotification(message, { name, recipient, stopUrl })) }
}

/** A message as a mail, with the reason why it is sent. */
export function renderNotification(
  message: Message,
  { name, recipient, stopUrl }: { name: string; recipient: string; stopUrl: string | null },
): ReturnType<typeof renderMail> {
  const why = recipient === BILLING_ADDRESS ? `This is the billing address of ${name}.` : `You chose to be told about ${name}.`
  return renderMail({
    ...message,
    footer: [why],
    ...(stopUrl === null ? {} : { stop: { label: 'No more mails of this kind', url: stopUrl } }),
  })
}

/** The billing address gets all that it did not decline, a member what they asked for. */
function isWanted(kind: NotificationKind, recipient: string, choices: Addressee['choices']): boolean {
  if (!mayDecline(kind, recipient)) return true
  return choices[kind] ?? recipient === BILLING_ADDRESS
}

/** What somebody has to be told about an open payment is told to the billing address in any case. */
export function mayDecline(kind: NotificationKind, recipient: string): boolean {
  return recipient !== BILLING_ADDRESS || !notificationKinds[kind].required
}
