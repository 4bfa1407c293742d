import type { Db } from '../db/database.ts'
import type { Clock } from '../lib/clock.ts'
import { MINUTE_MS } from '../lib/period.ts'
import { createSeal } from '../lib/seal.ts'
import { startLoop, type Loop } from '../jobs/loop.ts'
import { sendDueMails, type MailContext } from '../mail/actions.ts'
import type { Mailer } from '../mail/mailer.ts'
import type { WebhooksContext } from '../webhooks/actions.ts'
import { createDeliverer, type DeliveringContext } from '../webhooks/deliver.ts'
import { createPost } from '../webhooks/post.ts'
import { stopToken, type NotificationsContext } from './actions.ts'
import { handOutEvents } from './hand-out.ts'
import type { MailingContext } from './mails.ts'
import { observeDueAccounts, type ObservingContext } from './observe.ts'
import { countOverdue, type Queue } from './overdue-store.ts'

export type NotificationOptions = {
  readonly db: Db
  readonly clock: Clock
  readonly observing: ObservingContext
  /** Under which signing secrets are sealed. */
  readonly secret: string
  /** null keeps mails. */
  readonly mailer: Mailer | null
  /** Whether webhooks may go to this machine, by http too. */
  readonly allowLoopback: boolean
  /** By which browsers reach this server. */
  readonly publicUrl: string
  /** Where an organization's people see their billing. */
  readonly billingUrl: string
  readonly onFailure: (task: string, error: unknown) => void
} & Pick<DeliveringContext, 'onDelivery' | 'onDisabled'> &
  Pick<MailContext, 'onMail'>

/** What runs of notifications. */
export type Notifications = {
  readonly webhooks: WebhooksContext
  readonly preferences: NotificationsContext
  /** What should have been told five minutes ago and was not, by queue. */
  countOverdue(): Promise<ReadonlyMap<Queue, number>>
  /** Starts nothing more, and waits for what is under way. */
  stop(): Promise<void>
}

const POLL_MS = 500
const OVERDUE_MS = 5 * MINUTE_MS

/**
 * Starts the workers: one looks whose time has come, one hands events out, one delivers webhooks, one sends mails. Any number of servers
 * may run them.
 */
export function startNotifications(options: NotificationOptions): Notifications {
  const { db, clock, mailer, onFailure, publicUrl, billingUrl } = options
  const seal = createSeal(options.secret, 'webhook secrets')
  const stopSeal = createSeal(options.secret, 'links that decline mails')
  const mailing: MailingContext = {
    billingUrl,
    onUnwritable: (eventId, error) => onFailure(`the mail about ${eventId}`, error),
    stopUrl: (choice) => `${publicUrl}/api/v1/notifications/stop?token=${stopToken(stopSeal, choice)}`,
  }
  const destinations = { allowLoopback: options.allowLoopback }
  const delivering = { ...options, seal, post: createPost(destinations) }
  const deliverer = createDeliverer(delivering, () => deliveries.kick())
  const loop = (task: string, run: () => Promise<number>): Loop =>
    startLoop({ run, pollMs: POLL_MS, onFailure: (error) => onFailure(task, error) })

  const deliveries = loop('webhooks', () => deliverer.begin())
  const mails = loop('mail', () => sendDueMails(options))
  const events = loop('events', async () => {
    const handedOut = await handOutEvents({ db, clock, mailing })
    if (handedOut > 0) {
      deliveries.kick()
      mails.kick()
    }
    return handedOut
  })
  const looks = loop('reminders', () => observeDueAccounts(db, options.observing))
  return {
    preferences: { db, seal: stopSeal, billingUrl },
    webhooks: { db, clock, seal, destinations, onDue: () => deliveries.kick() },
    countOverdue: () => countOverdue(db, new Date(clock.now().getTime() - OVERDUE_MS)),
    async stop() {
      await Promise.all([looks.stop(), events.stop()])
      await Promise.all([deliveries.stop(), mails.stop()])
      await deliverer.finish()
      await mailer?.close()
    },
  }
}
