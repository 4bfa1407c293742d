import type { Ctx } from '../../engine/context.ts'
import { missing } from '../../engine/errors.ts'
import { operation, type Module } from '../../engine/module.ts'
import type { CustomerSession, Params } from '../../wire.gen.ts'
import { requireCustomer } from './customer-find.ts'

type CreateParams = Params['POST /v1/customer_sessions']
type Components = NonNullable<CustomerSession['components']>

const halfAnHour = 1800

function componentsOf(given: CreateParams['components']): Components {
  const on = (component: { enabled: boolean } | undefined): { enabled: boolean } => ({ enabled: component?.enabled ?? false })
  const sheet = given.customer_sheet?.features
  const mobile = given.mobile_payment_element?.features
  const element = given.payment_element?.features
  return {
    active_entitlements: on(given.active_entitlements),
    buy_button: on(given.buy_button),
    customer_portal: on(given.customer_portal),
    customer_sheet: {
      ...on(given.customer_sheet),
      features:
        sheet === undefined
          ? null
          : {
              payment_method_allow_redisplay_filters: sheet.payment_method_allow_redisplay_filters ?? ['always'],
              payment_method_remove: sheet.payment_method_remove ?? 'disabled',
            },
    },
    mobile_payment_element: {
      ...on(given.mobile_payment_element),
      features:
        mobile === undefined
          ? null
          : {
              payment_method_allow_redisplay_filters: mobile.payment_method_allow_redisplay_filters ?? ['always'],
              payment_method_redisplay: mobile.payment_method_redisplay ?? 'disabled',
              payment_method_remove: mobile.payment_method_remove ?? 'disabled',
              payment_method_save: mobile.payment_method_save ?? 'disabled',
              payment_method_save_allow_redisplay_override: mobile.payment_method_save_allow_redisplay_override ?? null,
            },
    },
    payment_element: {
      ...on(given.payment_element),
      features:
        element === undefined
          ? null
          : {
              payment_method_allow_redisplay_filters: element.payment_method_allow_redisplay_filters ?? ['always'],
              payment_method_redisplay: element.payment_method_redisplay ?? 'disabled',
              payment_method_redisplay_limit: element.payment_method_redisplay_limit ?? 3,
              payment_method_remove: element.payment_method_remove ?? 'disabled',
              payment_method_save: element.payment_method_save ?? 'disabled',
              payment_method_save_usage: element.payment_method_save_usage ?? null,
            },
    },
    pricing_table: on(given.pricing_table),
  }
}

/** A customer session is only its answer: Stripe.js is its one reader, and that cannot run offline. Nothing is stored. */
function create(ctx: Ctx, params: Pick<CreateParams, 'components' | 'customer'>): CustomerSession {
  if (params.customer === undefined) throw missing('customer')
  const customer = requireCustomer(ctx, params.customer, 'customer').id
  const created = ctx.now()
  return {
    object: 'customer_session',
    client_secret: `cuss_secret_${ctx.token(40)}`,
    components: componentsOf(params.components),
    created,
    customer,
    customer_account: null,
    expires_at: created + halfAnHour,
    livemode: false,
  }
}

export const customerSessionsModule: Module = {
  operations: [operation({ on: 'POST /v1/customer_sessions', takes: ['components', 'customer'], run: create })],
}
