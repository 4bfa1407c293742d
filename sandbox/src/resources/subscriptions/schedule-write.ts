/** Making and changing schedules. */
import { scheduleTakesEndOver } from '../../billing/inferred.ts'
import { orNull } from '../../engine/answer.ts'
import type { Ctx } from '../../engine/context.ts'
import { invalidRequest, missing } from '../../engine/errors.ts'
import { mergeMetadata } from '../../engine/metadata.ts'
import type { Params } from '../../wire.gen.ts'
import { billingSettings } from '../billing-settings.ts'
import { requireCustomer } from '../customers/customer-find.ts'
import { cancelSubscription } from './cancel.ts'
import { lastPeriodEndOf } from './items-params.ts'
import { refuseItemized } from './lay-out.ts'
import {
  layOutPhases,
  type Phase,
  phaseOfSubscription,
  phaseTax,
  type PhaseParam,
  requireTaxable,
  scheduleOf,
  type StoredSchedule,
  taxIn,
  taxOfSubscription,
} from './schedule-phases.ts'
import { cancelSchedule, enterPhase, planEnd, startSchedule } from './schedule-run.ts'
import { isEnded, type StoredSubscription } from './stored.ts'

export const SCHEDULE_CREATE_TAKES = [
  'billing_mode',
  'customer',
  'default_settings',
  'end_behavior',
  'from_subscription',
  'metadata',
  'phases',
  'start_date',
] as const
export const SCHEDULE_UPDATE_TAKES = ['default_settings', 'end_behavior', 'metadata', 'phases', 'proration_behavior'] as const

type CreateParams = Pick<Params['POST /v1/subscription_schedules'], (typeof SCHEDULE_CREATE_TAKES)[number]>
type UpdateParams = Pick<Params['POST /v1/subscription_schedules/{id}'], (typeof SCHEDULE_UPDATE_TAKES)[number]>
type Settings = StoredSchedule['default_settings']

/** `POST /v1/subscription_schedules`. */
export function createSchedule(ctx: Ctx, params: CreateParams): StoredSchedule {
  if (params.from_subscription !== undefined) return createFrom(ctx, params, params.from_subscription)
  const schedule = draftSchedule(ctx, params)
  requireTaxable(ctx, schedule)
  ctx.emit('subscription_schedule.created', schedule)
  const start = schedule.phases[0]?.start_date ?? 0
  return start <= ctx.nowOf(schedule) ? startSchedule(ctx, schedule.id) : schedule
}

/** A schedule that has not begun, stored and not announced. */
export function draftSchedule(
  ctx: Ctx,
  params: Omit<CreateParams, 'phases'> & { readonly phases?: readonly PhaseParam[] },
): StoredSchedule {
  if (params.customer === undefined) throw missing('customer')
  if (params.phases === undefined) throw missing('phases')
  const customer = requireCustomer(ctx, params.customer, 'customer')
  const now = ctx.now(customer.id)
  const asked = params.start_date ?? params.phases[0]?.start_date
  const start = asked === undefined || asked === 'now' ? now : asked
  const phases = layOutPhases(ctx, params.phases, {
    start,
    now,
    currency: customer.currency ?? null,
    proration: 'create_prorations',
  })
  refuseItemized(params.billing_mode?.flexible?.proration_discounts)
  const mode = params.billing_mode?.type ?? billingSettings(ctx).billingMode
  return ctx.create('subscription_schedule', {
    ...blank(ctx, customer.id, mode),
    default_settings: settingsOf(defaultSettings(), params.default_settings),
    end_behavior: params.end_behavior ?? 'release',
    metadata: mergeMetadata({}, params.metadata),
    phases,
  })
}

function blank(ctx: Ctx, customer: string, mode: 'classic' | 'flexible'): StoredSchedule {
  return {
    id: ctx.newId('sub_sched', 24),
    object: 'subscription_schedule',
    application: null,
    billing_mode: { type: mode, flexible: mode === 'flexible' ? { proration_discounts: 'included' } : null },
    canceled_at: null,
    completed_at: null,
    created: ctx.now(customer),
    current_phase: null,
    customer,
    customer_account: null,
    default_settings: defaultSettings(),
    end_behavior: 'release',
    livemode: false,
    metadata: {},
    pause_schedules: [],
    phases: [],
    released_at: null,
    released_subscription: null,
    status: 'not_started',
    subscription: null,
    test_clock: ctx.require('customer', customer).test_clock ?? null,
    _: { phase: -1, expiryAnnounced: null },
  }
}

function defaultSettings(): Settings {
  return {
    application_fee_percent: null,
    billing_cycle_anchor: 'automatic',
    billing_thresholds: null,
    collection_method: 'charge_automatically',
    default_payment_method: null,
    description: null,
    invoice_settings: {
      account_tax_ids: null,
      custom_fields: null,
      days_until_due: null,
      description: null,
      footer: null,
      issuer: { type: 'self' },
    },
    on_behalf_of: null,
    transfer_data: null,
  }
}

function settingsOf(old: Settings, param: UpdateParams['default_settings']): Settings {
  if (param === undefined) return old
  const invoice = param.invoice_settings
  return {
    ...old,
    ...phaseTax(param.automatic_tax),
    billing_cycle_anchor: param.billing_cycle_anchor ?? old.billing_cycle_anchor,
    collection_method: param.collection_method === undefined ? old.collection_method : orNull(param.collection_method),
    default_payment_method: param.default_payment_method ?? old.default_payment_method,
    description: param.description === undefined ? old.description : orNull(param.description),
    invoice_settings:
      invoice === undefined
        ? old.invoice_settings
        : {
            ...old.invoice_settings,
            custom_fields:
              invoice.custom_fields === undefined ? old.invoice_settings.custom_fields : orNull(invoice.custom_fields),
            days_until_due: invoice.days_until_due ?? old.invoice_settings.days_until_due,
            description: invoice.description === undefined ? old.invoice_settings.description : orNull(invoice.description),
            footer: invoice.footer === undefined ? old.invoice_settings.footer : orNull(invoice.footer),
          },
  }
}

/** A schedule that takes over a running subscription: one phase, up to the end of its period. */
function createFrom(ctx: Ctx, params: CreateParams, id: string): StoredSchedule {
  const { from_subscription: _from, ...others } = params
  if (Object.values(others).some((value) => value !== undefined)) {
    throw invalidRequest('You cannot set other parameters if `from_subscription` is set.', { param: 'from_subscription' })
  }
  const subscription = ctx.require('subscription', id, 'from_subscription')
  requireFree(ctx, subscription)
  const start = Math.min(...subscription._.items.map((item) => item.current_period_start))
  const phase = phaseOfSubscription(ctx, subscription, {
    start,
    end: subscription.cancel_at ?? lastPeriodEndOf(subscription._.items),
  })
  const schedule = ctx.create(
    'subscription_schedule',
    {
      ...blank(ctx, subscription.customer, subscription.billing_mode.type),
      default_settings: {
        ...defaultSettings(),
        ...taxOfSubscription(subscription),
        collection_method: subscription.collection_method,
        default_payment_method: subscription.default_payment_method,
      },
      end_behavior: subscription.cancel_at === null ? 'release' : 'cancel',
      phases: [phase],
      current_phase: { start_date: phase.start_date, end_date: phase.end_date },
      status: 'active',
      subscription: id,
      _: { phase: 0, expiryAnnounced: null },
    },
    'subscription_schedule.created',
  )
  const ending = scheduleTakesEndOver() ? { cancel_at_period_end: false } : {}
  ctx.change('subscription', id, { schedule: schedule.id, ...ending }, 'customer.subscription.updated')
  return schedule
}

function requireFree(ctx: Ctx, subscription: StoredSubscription): void {
  if (isEnded(subscription))
    throw invalidRequest('You cannot create a subscription schedule from a canceled subscription.', {
      param: 'from_subscription',
    })
  if (scheduleOf(ctx, subscription) === undefined) return
  throw invalidRequest(
    `You cannot migrate a subscription that is already attached to a schedule. The subscription is already attached to the following schedule: ${subscription.schedule}.`,
    { param: 'from_subscription' },
  )
}

/** A schedule that can still be changed. */
export function requireLive(ctx: Ctx, id: string): StoredSchedule {
  const schedule = ctx.require('subscription_schedule', id)
  if (schedule.status === 'active' || schedule.status === 'not_started') return schedule
  throw invalidRequest(`You cannot update a subscription schedule that is currently in the \`${schedule.status}\` status.`)
}

/** `POST /v1/subscription_schedules/{id}`. */
export function updateSchedule(ctx: Ctx, id: string, params: UpdateParams): StoredSchedule {
  const schedule = requireLive(ctx, id)
  const phases = params.phases === undefined ? schedule.phases : changedPhases(ctx, schedule, params)
  const current = schedule.status === 'active' ? phases[schedule._.phase] : undefined
  const updated = ctx.change(
    'subscription_schedule',
    id,
    {
      default_settings: settingsOf(schedule.default_settings, params.default_settings),
      end_behavior: params.end_behavior ?? schedule.end_behavior,
      metadata: mergeMetadata(schedule.metadata, params.metadata),
      phases,
      ...(current === undefined ? {} : { current_phase: { start_date: current.start_date, end_date: current.end_date } }),
    },
    'subscription_schedule.updated',
  )
  requireTaxable(ctx, updated)
  if (current !== undefined && schedule.subscription !== null && params.phases !== undefined) {
    const subscription = ctx.require('subscription', schedule.subscription)
    if (differs(subscription, current, taxIn(updated, current))) {
      enterPhase(
        ctx,
        updated,
        subscription,
        { ...current, add_invoice_items: [] },
        params.proration_behavior ?? 'create_prorations',
      )
    }
  }
  planEnd(ctx, updated)
  return ctx.require('subscription_schedule', id)
}

/** New phases keep those that are over, and the running one's start. */
function changedPhases(ctx: Ctx, schedule: StoredSchedule, params: UpdateParams): Phase[] {
  const now = ctx.nowOf(schedule)
  const index = Math.max(schedule._.phase, 0)
  const [first] = params.phases ?? []
  const running = schedule.phases[index]
  const asked = first?.start_date
  const past = schedule.phases.slice(0, index)
  const repeatsPast = typeof asked === 'number' && past.some((phase) => phase.start_date === asked)
  const fresh = (params.phases ?? []).slice(repeatsPast ? past.length : 0)
  const [current] = fresh
  if (schedule.status === 'active' && current?.start_date === undefined) throw missing('phases[0][start_date]')
  if (schedule.status === 'active' && typeof current?.start_date === 'number' && current.start_date !== running?.start_date) {
    throw invalidRequest('You can not modify the start date of the current phase.', { param: 'phases[0][start_date]' })
  }
  const start = schedule.status === 'active' ? (running?.start_date ?? now) : startOf(asked, running?.start_date ?? now, now)
  const laid = layOutPhases(ctx, fresh, {
    start,
    now,
    currency: running?.currency ?? null,
    proration: 'create_prorations',
  })
  if (schedule.status === 'active' && (laid[0]?.end_date ?? 0) <= now) {
    throw invalidRequest('The `end_date` of the current phase must be in the future.', { param: 'phases[0][end_date]' })
  }
  return [...past, ...laid]
}

function startOf(asked: number | 'now' | undefined, kept: number, now: number): number {
  if (asked === undefined) return kept
  return asked === 'now' ? now : asked
}

/** Whether a phase asks for other items than the subscription has, for none of its discounts, or for tax where there was none. */
function differs(subscription: StoredSubscription, phase: Phase, tax: { enabled: boolean } | undefined): boolean {
  if (tax !== undefined && tax.enabled !== subscription.automatic_tax.enabled) return true
  const has = subscription._.items.map((item) => `${item.price} ${item.quantity ?? ''}`).sort()
  const wants = phase.items.map((item) => `${item.price} ${item.quantity ?? ''}`).sort()
  return has.join() !== wants.join() || (phase.discounts.length === 0 && subscription.discounts.length > 0)
}

/** `POST /v1/subscription_schedules/{id}/cancel`. */
export function endScheduleNow(ctx: Ctx, id: string, params: { invoice_now?: boolean; prorate?: boolean }): StoredSchedule {
  const schedule = requireLive(ctx, id)
  if (schedule.subscription === null || isEnded(ctx.require('subscription', schedule.subscription)))
    return cancelSchedule(ctx, schedule)
  cancelSubscription(ctx, schedule.subscription, { invoice_now: params.invoice_now ?? true, prorate: params.prorate ?? true })
  return ctx.require('subscription_schedule', id)
}
