import { orNull, updated } from '../engine/answer.ts'
import type { Ctx } from '../engine/context.ts'
import { invalidRequest, missing, notSupported } from '../engine/errors.ts'
import { mergeMetadata } from '../engine/metadata.ts'
import type { Stored } from '../model/stored.ts'
import { requireUrl } from '../resources/payments/intent-params.ts'
import type { Params } from '../wire.gen.ts'

export type Configuration = Stored<'billing_portal.configuration'>
export type Features = Configuration['features']
type CreateParams = Params['POST /v1/billing_portal/configurations']
type UpdateParams = Params['POST /v1/billing_portal/configurations/{id}']
type FeaturesParam = NonNullable<UpdateParams['features']>

export const configurationTakes = [
  'business_profile',
  'default_return_url',
  'features',
  'login_page',
  'metadata',
  'name',
] as const
export const configurationRefuses = [
  'features.payment_method_update.payment_method_configuration',
  'features.subscription_cancel.cancellation_reason.feedback_options',
  'features.subscription_update.schedule_at_period_end.conditions',
]

const reasons = [
  'too_expensive',
  'missing_features',
  'switched_service',
  'unused',
  'customer_service',
  'too_complex',
  'low_quality',
  'other',
] as const

/** Nothing is enabled: what a configuration is before its features are given. */
const noFeatures: Features = {
  customer_update: { allowed_updates: [], enabled: false },
  invoice_history: { enabled: false },
  payment_method_update: { enabled: false, payment_method_configuration: null },
  subscription_cancel: {
    cancellation_reason: { enabled: false, feedback_options: null, options: [...reasons] },
    enabled: false,
    mode: 'at_period_end',
    proration_behavior: 'none',
  },
  subscription_pause: { duration: { interval_options: [], type: 'indefinite' }, enabled: false },
  subscription_update: {
    billing_cycle_anchor: null,
    default_allowed_updates: [],
    enabled: false,
    products: null,
    proration_behavior: 'none',
    schedule_at_period_end: { conditions: [] },
    trial_update_behavior: 'end_trial',
  },
}

/** What a customer finds where no configuration was made: everything, and every recurring price to change to. */
const allFeatures: Features = {
  ...noFeatures,
  customer_update: { allowed_updates: ['email', 'name', 'address', 'phone', 'tax_id'], enabled: true },
  invoice_history: { enabled: true },
  payment_method_update: { enabled: true, payment_method_configuration: null },
  subscription_cancel: { ...noFeatures.subscription_cancel, enabled: true },
  subscription_update: {
    ...noFeatures.subscription_update,
    default_allowed_updates: ['price', 'quantity', 'promotion_code'],
    enabled: true,
    proration_behavior: 'create_prorations',
  },
}

type Products = NonNullable<Features['subscription_update']['products']>

function productsOf(ctx: Ctx, given: NonNullable<FeaturesParam['subscription_update']>['products']): Products {
  return (given || []).map((entry, index) => {
    const at = `features[subscription_update][products][${index}]`
    ctx.require('product', entry.product, `${at}[product]`)
    for (const id of entry.prices) {
      const price = ctx.require('price', id, `${at}[prices]`)
      if (price.product !== entry.product) {
        throw invalidRequest(`The price ${id} does not belong to the product ${entry.product}.`, { param: `${at}[prices]` })
      }
      if (price.recurring === null) throw invalidRequest(`The price ${id} is not recurring.`, { param: `${at}[prices]` })
    }
    const { enabled = false, maximum = null, minimum = 1 } = entry.adjustable_quantity ?? {}
    return { adjustable_quantity: { enabled, maximum, minimum }, prices: entry.prices, product: entry.product }
  })
}

function updateFeature(
  ctx: Ctx,
  old: Features['subscription_update'],
  given: FeaturesParam['subscription_update'],
): Features['subscription_update'] {
  if (given === undefined) return old
  const result = {
    billing_cycle_anchor: given.billing_cycle_anchor ?? old.billing_cycle_anchor,
    default_allowed_updates:
      given.default_allowed_updates === undefined ? old.default_allowed_updates : given.default_allowed_updates || [],
    enabled: given.enabled ?? old.enabled,
    products: given.products === undefined ? (old.products ?? null) : productsOf(ctx, given.products),
    proration_behavior: given.proration_behavior ?? old.proration_behavior,
    schedule_at_period_end: old.schedule_at_period_end,
    trial_update_behavior: given.trial_update_behavior ?? old.trial_update_behavior,
  }
  const at = 'features[subscription_update]'
  if (result.enabled && result.default_allowed_updates.length === 0) throw missing(`${at}[default_allowed_updates]`)
  if (result.enabled && given.products !== undefined && (result.products ?? []).length === 0) throw missing(`${at}[products]`)
  return result
}

function cancelFeature(
  old: Features['subscription_cancel'],
  given: FeaturesParam['subscription_cancel'],
): Features['subscription_cancel'] {
  if (given === undefined) return old
  const reason = given.cancellation_reason
  return {
    cancellation_reason:
      reason === undefined
        ? old.cancellation_reason
        : {
            enabled: reason.enabled ?? old.cancellation_reason.enabled,
            feedback_options: null,
            options: reason.options || old.cancellation_reason.options,
          },
    enabled: given.enabled ?? old.enabled,
    mode: given.mode ?? old.mode,
    proration_behavior: given.proration_behavior ?? old.proration_behavior,
  }
}

function pauseFeature(
  old: Features['subscription_pause'],
  given: FeaturesParam['subscription_pause'],
): Features['subscription_pause'] {
  if (given === undefined) return old
  const duration = given.duration
  const options = duration === undefined ? old.duration.interval_options : (duration.interval_options || []).map(withCount)
  return {
    duration: { interval_options: options, type: duration?.type ?? old.duration.type },
    enabled: given.enabled ?? old.enabled,
  }
}

type IntervalOption = Features['subscription_pause']['duration']['interval_options'][number]

function withCount(option: { interval: IntervalOption['interval']; interval_count?: number }): IntervalOption {
  return { interval: option.interval, interval_count: option.interval_count ?? 1 }
}

function featuresOf(ctx: Ctx, old: Features, given: FeaturesParam | undefined): Features {
  if (given === undefined) return old
  const customer = given.customer_update
  const allowed = customer?.allowed_updates === undefined ? old.customer_update.allowed_updates : customer.allowed_updates || []
  const customer_update = { allowed_updates: allowed, enabled: customer?.enabled ?? old.customer_update.enabled }
  if (customer_update.enabled && allowed.length === 0) throw missing('features[customer_update][allowed_updates]')
  return {
    customer_update,
    invoice_history: given.invoice_history ?? old.invoice_history,
    payment_method_update: {
      enabled: given.payment_method_update?.enabled ?? old.payment_method_update.enabled,
      payment_method_configuration: null,
    },
    subscription_cancel: cancelFeature(old.subscription_cancel, given.subscription_cancel),
    subscription_pause: pauseFeature(old.subscription_pause, given.subscription_pause),
    subscription_update: updateFeature(ctx, old.subscription_update, given.subscription_update),
  }
}

function checkProfile(profile: CreateParams['business_profile']): void {
  requireUrl(profile?.privacy_policy_url || undefined, 'business_profile[privacy_policy_url]')
  requireUrl(profile?.terms_of_service_url || undefined, 'business_profile[terms_of_service_url]')
}

/** The portal's own login sends a code by e-mail, which the sandbox does not. */
function requireNoLogin(page: { enabled: boolean } | undefined): void {
  if (page?.enabled === true) throw notSupported('The login page of the portal', 'login_page[enabled]')
}

function store(
  ctx: Ctx,
  features: Features,
  params: Partial<Pick<CreateParams, (typeof configurationTakes)[number]>>,
  isDefault: boolean,
): Configuration {
  const now = ctx.now()
  const id = ctx.newId('bpc', 24)
  checkProfile(params.business_profile)
  requireUrl(params.default_return_url || undefined, 'default_return_url')
  requireNoLogin(params.login_page)
  const configuration: Configuration = {
    id,
    object: 'billing_portal.configuration',
    active: true,
    application: null,
    business_profile: {
      headline: orNull(params.business_profile?.headline),
      privacy_policy_url: orNull(params.business_profile?.privacy_policy_url),
      terms_of_service_url: orNull(params.business_profile?.terms_of_service_url),
    },
    created: now,
    default_return_url: orNull(params.default_return_url),
    features,
    is_default: isDefault,
    livemode: false,
    login_page: { enabled: false, url: null },
    metadata: mergeMetadata({}, params.metadata),
    name: orNull(params.name),
    updated: now,
  }
  return ctx.create('billing_portal.configuration', configuration, isDefault ? undefined : 'billing_portal.configuration.created')
}

/** Makes a configuration. Emits `billing_portal.configuration.created`. */
export function createConfiguration(ctx: Ctx, params: Pick<CreateParams, (typeof configurationTakes)[number]>): Configuration {
  return store(ctx, featuresOf(ctx, noFeatures, params.features), params, false)
}

/** The configuration that is used where none is named; made when it is first needed. */
export function defaultConfiguration(ctx: Ctx): Configuration {
  for (const configuration of ctx.store.all('billing_portal.configuration')) if (configuration.is_default) return configuration
  return store(ctx, allFeatures, {}, true)
}

/** Changes a configuration. Emits `billing_portal.configuration.updated`. */
export function updateConfiguration(
  ctx: Ctx,
  id: string,
  params: Pick<UpdateParams, (typeof configurationTakes)[number] | 'active'>,
): Configuration {
  const old = ctx.require('billing_portal.configuration', id)
  if (params.active === false && old.is_default)
    throw invalidRequest('You cannot deactivate the default configuration.', { param: 'active' })
  checkProfile(params.business_profile)
  requireUrl(params.default_return_url || undefined, 'default_return_url')
  const profile = params.business_profile ?? {}
  requireNoLogin(params.login_page)
  return ctx.change(
    'billing_portal.configuration',
    id,
    {
      active: params.active ?? old.active,
      business_profile: {
        headline: updated(old.business_profile.headline, profile.headline),
        privacy_policy_url: updated(old.business_profile.privacy_policy_url, profile.privacy_policy_url),
        terms_of_service_url: updated(old.business_profile.terms_of_service_url, profile.terms_of_service_url),
      },
      default_return_url: updated(old.default_return_url, params.default_return_url),
      features: featuresOf(ctx, old.features, params.features),
      metadata: mergeMetadata(old.metadata, params.metadata),
      name: updated(old.name, params.name),
      updated: ctx.now(),
    },
    'billing_portal.configuration.updated',
  )
}
