import type { Logger } from 'pino'
import type { ReportingOptions } from './analytics/rates.ts'
import type { CatalogDefinition } from './catalog/schema.ts'
import type { Config } from './config.ts'
import type { Clock } from './lib/clock.ts'
import { identityOfConfig, type IdentityOptions } from './identity-config.ts'
import type { SinkOptions } from './sinks/start.ts'
import { createSmtpMailer, type Mailer } from './mail/mailer.ts'

/** What `createTollgate` needs. Only the database and the catalog have no default. */
export type TollgateOptions = {
  /** `postgresql://user:password@host:5432/name`, version 15 or newer. The tables are made at the start (CB-1). */
  readonly databaseUrl: string
  /** Connections at most, beside the twelve of counting, sign-ins and news; default 20. */
  readonly databaseConnections?: number
  /** What `defineBilling` answers. */
  readonly catalog: CatalogDefinition
  /** null switches everything off that needs Stripe: it then answers `billing_not_configured` (MR-14, OC-10). */
  readonly stripe: StripeOptions | null
  /** The bootstrap operator key, at least 8 characters; null when only keys of organizations may call. */
  readonly operatorKey: string | null
  /** By which browsers reach this server, e.g. `https://billing.example.com`. */
  readonly publicUrl: string
  /** The secret behind the digests of API keys; made and kept in the database unless given. */
  readonly secret?: string | undefined
  /**
   * `required` refuses to start where the database login may not bring row-level security about; `auto`, the default,
   * warns then.
   */
  readonly rowSecurity?: 'auto' | 'required'
  /** Who reads `/metrics` besides operators: whoever sends the token, or everybody when it is open. */
  readonly metrics?: { readonly token?: string | undefined; readonly open?: boolean }
  /** What a new organization's id begins with (KF-2); default `org_`. */
  readonly tenantPrefix?: string
  readonly policy?: PolicyOptions
  /** Whom it lets in beside the holders of API keys. */
  readonly identity?: IdentityOptions
  /** Where use is forwarded to (OC-9); default nowhere. */
  readonly sinks?: SinkOptions
  /** What sends mails; without it they are kept, to be read by operators. */
  readonly mailer?: Mailer | null
  /** Default: JSON lines on standard output. */
  readonly log?: Logger
  /** Default: the machine's. */
  readonly clock?: Clock
  /** A catalog's `priceVariable` names one of them. */
  readonly variables?: Readonly<Record<string, string | undefined>>
  /** Into what analytics converts all currencies beside; by default they are only kept apart. */
  readonly reporting?: ReportingOptions | undefined
  /** Font files for what the font of PDFs does not have, e.g. Chinese, Japanese, Korean. */
  readonly pdfFonts?: readonly string[] | undefined
  /** Whether the process itself is measured too (memory, event loop); default true. Once in a process. */
  readonly processMetrics?: boolean
}

export type StripeOptions = {
  readonly secretKey: string
  /** With which Stripe.js takes cards in the browser. */
  readonly publishableKey?: string | undefined
  /** Signing secrets of the webhook endpoint; several while one is rolled. */
  readonly webhookSecrets: readonly string[]
  /** Where the API is when it is not Stripe itself: the sandbox. */
  readonly endpoint?: { readonly host: string; readonly port: number; readonly protocol: 'http' | 'https' }
  /** Calls a second that this server makes, on average; default 20 in test mode, 80 in live mode. */
  readonly callsPerSecond?: number | undefined
  /** Whether the catalog is brought there at the start, as `tollgate push` does; default false. */
  readonly pushAtStart?: boolean
}

export type PolicyOptions = {
  /** Default 14. */
  readonly trialDays?: number
  /** Who may tell, settle and take back use over HTTP: whoever has the scope `write` in the organization, or operators alone; default `tenants`. */
  readonly usageWriters?: 'tenants' | 'operators'
  /** Days of use after a payment failed (EM-7); default 3. */
  readonly graceDays?: number
  /** Days after a failed payment on which the customer is reminded (KF-13), beside the failure, a day before suspension, and suspension; default 1. */
  readonly dunningDays?: readonly number[]
  /** When a change to a cheaper plan happens that does not say when itself; default `now`. */
  readonly downgradeAt?: 'now' | 'period_end'
  /** Whether Stripe Tax works out the tax of what is bought; default false. */
  readonly automaticTax?: boolean
  /** From when on a disputed payment of a subscription counts like one that failed; default `lost`. */
  readonly disputeCounts?: 'never' | 'lost' | 'opened'
  /** Days for which a handled event of Stripe is kept, at least 30; default 35. */
  readonly stripeEventDays?: number
  /** Defaults of checkout and portal (MR-1, MR-2); default: pages of this server. */
  readonly successUrl?: string | undefined
  readonly cancelUrl?: string | undefined
  readonly portalReturnUrl?: string | undefined
  /** The price that checkout uses when the request names neither price nor plan. */
  readonly defaultPriceId?: string | undefined
}

/** The address by which browsers reach a server of this configuration. */
export function publicUrlOf(config: Pick<Config, 'TOLLGATE_PUBLIC_URL' | 'PORT'>): string {
  return (config.TOLLGATE_PUBLIC_URL ?? `http://localhost:${config.PORT}`).replace(/\/+$/, '')
}

/** The options that the variables decide; what they leave open the caller adds. */
export function optionsOfConfig(
  config: Config,
): Pick<
  TollgateOptions,
  | 'reporting'
  | 'pdfFonts'
  | 'publicUrl'
  | 'secret'
  | 'rowSecurity'
  | 'databaseConnections'
  | 'metrics'
  | 'tenantPrefix'
  | 'policy'
  | 'variables'
  | 'mailer'
  | 'identity'
  | 'sinks'
> {
  return {
    publicUrl: publicUrlOf(config),
    reporting: reportingOf(config),
    pdfFonts: config.TOLLGATE_PDF_FONTS,
    secret: config.TOLLGATE_SECRET,
    rowSecurity: config.TOLLGATE_ROW_SECURITY,
    databaseConnections: config.TOLLGATE_DATABASE_CONNECTIONS,
    metrics: { token: config.METRICS_TOKEN },
    tenantPrefix: config.TOLLGATE_TENANT_PREFIX,
    policy: {
      trialDays: config.STRIPE_TRIAL_PERIOD_DAYS,
      usageWriters: config.TOLLGATE_USAGE_WRITERS,
      graceDays: config.STRIPE_PAYMENT_GRACE_PERIOD_DAYS,
      dunningDays: config.TOLLGATE_DUNNING_DAYS,
      downgradeAt: config.TOLLGATE_DOWNGRADE_AT,
      automaticTax: config.STRIPE_AUTOMATIC_TAX === 'true',
      disputeCounts: config.TOLLGATE_DISPUTE_COUNTS,
      stripeEventDays: config.TOLLGATE_STRIPE_EVENT_DAYS,
      successUrl: config.STRIPE_SUCCESS_URL,
      cancelUrl: config.STRIPE_CANCEL_URL,
      portalReturnUrl: config.STRIPE_PORTAL_RETURN_URL,
      defaultPriceId: config.STRIPE_PRICE_ID,
    },
    variables: config.variables,
    mailer: mailerOfConfig(config),
    sinks: sinksOfConfig(config),
    identity: identityOfConfig(config),
  }
}

function sinksOfConfig(config: Config): SinkOptions {
  const { LAGO_API_URL: lago, LAGO_API_KEY: apiKey, TOLLGATE_SINK_URL: url, TOLLGATE_SINK_FILE: path } = config
  return {
    ...(lago === undefined || apiKey === undefined ? {} : { lago: { url: lago, apiKey } }),
    ...(url === undefined ? {} : { http: { url, key: config.TOLLGATE_SINK_KEY ?? null } }),
    ...(path === undefined ? {} : { file: { path } }),
  }
}

function mailerOfConfig({ SMTP_URL: url, MAIL_FROM: from }: Config): Mailer | null {
  return url === undefined || from === undefined ? null : createSmtpMailer({ url, from })
}

/** `TOLLGATE_EXCHANGE_RATES`, e.g. `gbp=1.27,eur=1.08`; undefined when no currency of reports is named. */
function reportingOf(config: Config): ReportingOptions | undefined {
  const { TOLLGATE_REPORTING_CURRENCY: currency, TOLLGATE_EXCHANGE_RATES: rates } = config
  if (currency === undefined) return undefined
  const pairs = (rates ?? '').split(',').filter((pair) => pair !== '')
  return { currency, rates: Object.fromEntries(pairs.map((pair) => pair.split('=') as [string, string])) }
}

/** Stripe as the variables name it; null when no key is set. */
export function stripeOfConfig(config: Config): StripeOptions | null {
  if (config.STRIPE_SECRET_KEY === undefined) return null
  return {
    secretKey: config.STRIPE_SECRET_KEY,
    publishableKey: config.STRIPE_PUBLISHABLE_KEY,
    callsPerSecond: config.STRIPE_CALLS_PER_SECOND,
    webhookSecrets: config.STRIPE_WEBHOOK_SECRET?.split(',') ?? [],
  }
}
