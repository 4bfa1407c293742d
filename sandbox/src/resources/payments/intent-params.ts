import { defined } from '../../engine/answer.ts'
import { invalidRequest, notSupported } from '../../engine/errors.ts'
import type { Stored } from '../../model/stored.ts'
import type { Params } from '../../wire.gen.ts'
import { addressOf } from '../customers/address.ts'

/** Names below `payment_method_options`, as an operation's `refuses` wants them. */
const below = (names: readonly string[]): readonly string[] => names.map((name) => `payment_method_options.${name}`)

/** Parts of a payment's options that the sandbox does not play: every card option but `request_three_d_secure` and `network`. */
export const refusedPaymentOptions = below([
  'card.capture_method',
  'card.cvc_token',
  'card.installments',
  'card.mandate_options',
  'card.moto',
  'card.request_extended_authorization',
  'card.request_incremental_authorization',
  'card.request_multicapture',
  'card.request_overcapture',
  'card.require_cvc_recollection',
  'card.setup_credential_usage',
  'card.setup_future_usage',
  'card.statement_descriptor_suffix_kana',
  'card.statement_descriptor_suffix_kanji',
  'card.stored_credential_usage',
  'card.three_d_secure',
  'customer_balance',
  'link',
  'sepa_debit',
  'us_bank_account',
])

/** The same for set-ups. */
export const refusedSetupOptions = below([
  'card.mandate_options',
  'card.moto',
  'card.setup_credential_usage',
  'card.three_d_secure',
  'link',
  'sepa_debit',
  'us_bank_account',
])

/** The same for checkout sessions. */
export const refusedCheckoutOptions = below([
  'card.capture_method',
  'card.installments',
  'card.request_extended_authorization',
  'card.request_incremental_authorization',
  'card.request_multicapture',
  'card.request_overcapture',
  'card.restrictions',
  'card.setup_future_usage',
  'card.statement_descriptor_suffix_kana',
  'card.statement_descriptor_suffix_kanji',
  'customer_balance',
  'demo_pay',
  'link',
  'sepa_debit',
  'us_bank_account',
])

interface AutomaticParam {
  readonly allow_redirects?: 'always' | 'never'
  readonly enabled: boolean
}

type ShippingParam = NonNullable<Params['POST /v1/payment_intents']['shipping']>

/** A shipping address as it is stored: every field, null where nothing was given. */
export function shippingOf(shipping: ShippingParam | '' | undefined): Stored<'payment_intent'>['shipping'] {
  if (shipping === undefined || shipping === '') return null
  return defined({
    address: addressOf(shipping.address),
    carrier: shipping.carrier ?? null,
    name: shipping.name,
    phone: shipping.phone ?? null,
    tracking_number: shipping.tracking_number ?? null,
  })
}

/**
 * Which methods an intent takes, from the two parameters that say so; neither means automatic, as in current API versions.
 * The sandbox pays by card; a list without it is refused.
 */
export function methodTypes<T extends string>(params: {
  readonly automatic_payment_methods?: AutomaticParam | undefined
  readonly allowed_payment_method_types?: T[] | '' | undefined
}): { automatic: { allow_redirects: 'always' | 'never'; enabled: true } | null; allowed: T[] | null } {
  const automatic = params.automatic_payment_methods
  const allowed = params.allowed_payment_method_types || null
  if (allowed !== null && !allowed.some((type) => type === 'card')) {
    throw notSupported('A payment without cards', 'allowed_payment_method_types')
  }
  if (automatic?.enabled === false) return { automatic: null, allowed }
  return { automatic: { allow_redirects: automatic?.allow_redirects ?? 'always', enabled: true }, allowed }
}

/**
 * Refuses to confirm without a way back where a method might redirect, as Stripe does: automatic methods need a `return_url`
 * unless redirects are ruled out.
 */
export function requireReturnUrl(
  what: 'PaymentIntent' | 'SetupIntent',
  automatic: { allow_redirects?: 'always' | 'never'; enabled: boolean | null } | null,
  returnUrl: string | undefined,
): void {
  if (automatic?.enabled !== true || automatic.allow_redirects === 'never' || returnUrl !== undefined) return
  throw invalidRequest(
    `This ${what} is configured to accept payment methods enabled in your Dashboard. Because some of these payment methods might redirect your customer off of your page, you must provide a \`return_url\`. If you don't want to accept redirect-based payment methods, set \`automatic_payment_methods[enabled]\` to \`true\` and \`automatic_payment_methods[allow_redirects]\` to \`never\` when creating Setup Intents and Payment Intents.`,
    { param: 'return_url' },
  )
}

/** Checks that a parameter is an absolute http or https address. Throws `url_invalid`. */
export function requireUrl(url: string | undefined, param: string): void {
  if (url === undefined) return
  const known = URL.canParse(url) ? new URL(url).protocol : ''
  if (/^(https?:|[a-z][a-z0-9+.-]*:)$/.test(known) && known !== 'javascript:' && known !== 'data:') return
  throw invalidRequest('Not a valid URL', { param, code: 'url_invalid' })
}
