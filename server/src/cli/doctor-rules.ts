import type { Config } from '../config.ts'
import type { TaxSetup } from '../stripe/gateway/tax-reads.ts'

/** What is known of the webhooks of Stripe. */
export type WebhookFacts = {
  /** Of the running server since its start, by what it answered; null where none could be asked. */
  readonly answered: { readonly accepted: number; readonly refused: number } | null
  /** Events of the last day, by how they came: brought by a webhook, or found by asking Stripe. */
  readonly brought: number
  readonly missed: number
  /** Events that nobody has handled for ten minutes. */
  readonly waiting: number
  /** Where Stripe has to send them. */
  readonly address: string
}

/**
 * What they tell in a sentence. Pure.
 * @throws Error where they do not come, as with the secret of another endpoint
 */
export function judgeWebhooks({ answered, brought, missed, waiting, address }: WebhookFacts): string {
  const refused = answered?.refused ?? 0
  const secret = 'STRIPE_WEBHOOK_SECRET is probably not that of the endpoint'
  if (answered !== null && refused > 0 && answered.accepted === 0) {
    throw new Error(`${refused} webhooks were refused since the server started, and none was taken: ${secret} at ${address}.`)
  }
  if (brought === 0 && missed > 0) {
    throw new Error(
      `No webhook of the last day came, and ${missed} events were found by asking Stripe: there is no endpoint at ${address}, or ${secret}.`,
    )
  }
  if (waiting > 0) throw new Error(`${waiting} events of Stripe have waited for more than ten minutes: tollgate events list.`)
  const said = refused === 0 ? '' : `; ${refused} were refused for their signature since the server started`
  return `${brought} events of the last day came by webhook, ${missed} were found by asking Stripe${said}`
}

/** What one server has answered to webhooks, by its metrics. Pure. */
export function readWebhookAnswers(metrics: string): WebhookFacts['answered'] {
  const answered = { accepted: 0, refused: 0 }
  for (const [, labels, count] of metrics.matchAll(/^http_request_duration_seconds_count\{([^}]*)\} (\d+)/gm)) {
    if (!/route="\/api\/v1\/(billing\/webhooks?|webhooks\/stripe)"/.test(labels!)) continue
    if (labels!.includes('status="200"')) answered.accepted += Number(count)
    if (labels!.includes('status="400"')) answered.refused += Number(count)
  }
  return answered
}

/**
 * Whether customers find the way back. Pure.
 * @throws Error where a live key sends them to this machine, or over a line that everybody reads
 */
export function judgeAddresses(config: Config, publicUrl: string): string {
  const isLive = config.STRIPE_SECRET_KEY?.includes('_live_') === true
  const { protocol, hostname } = new URL(publicUrl)
  if (isLive && /^(localhost|127\.|\[::1\])/.test(hostname)) {
    throw new Error(`Customers are sent to ${publicUrl}, which is this machine: set TOLLGATE_PUBLIC_URL.`)
  }
  if (isLive && protocol !== 'https:') throw new Error(`${publicUrl} is not https, and customers of a live key go there.`)
  const mails = config.SMTP_URL === undefined ? 'mails are kept and not sent, without SMTP_URL' : 'mails are sent'
  return `browsers reach it at ${publicUrl}; ${mails}`
}

/**
 * Whether Stripe Tax can work out what it is asked for. Pure.
 * @throws Error where it is not set up, so that Stripe refuses each purchase
 */
export function judgeTaxes({ missing, countries }: TaxSetup): string {
  if (missing.length > 0) {
    throw new Error(
      `Stripe Tax is not set up (${missing.join(', ')}), and purchases ask for it: complete its settings at Stripe.`,
    )
  }
  return countries.length === 0
    ? 'Stripe Tax works it out, and collects none: no country is registered'
    : `Stripe Tax works it out; registered: ${countries.join(', ')}`
}

/** Stripe takes a signature for five minutes; what counts by the hour should not differ by more than moments. */
const MOST_SKEW_MS = 30_000

/** @throws Error where the machine and the database are not of one time */
export function judgeClocks(machine: Date, database: Date): string {
  const skewMs = machine.getTime() - database.getTime()
  const seconds = Math.round(Math.abs(skewMs) / 1_000)
  if (Math.abs(skewMs) <= MOST_SKEW_MS) return 'of one time with the database'
  throw new Error(`The clock of this machine is ${seconds} s ${skewMs > 0 ? 'ahead of' : 'behind'} the database's.`)
}
