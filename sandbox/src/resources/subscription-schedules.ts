import type { Ctx } from '../engine/context.ts'
import { invalidRequest, missing } from '../engine/errors.ts'
import { inRange, list } from '../engine/lists.ts'
import { mergeMetadata } from '../engine/metadata.ts'
import { type Module, operation } from '../engine/module.ts'
import { orNull } from '../engine/answer.ts'
import type { Params } from '../wire.gen.ts'
import { billingSettings } from './billing-settings.ts'
import { requireCustomer } from './customer-find.ts'
import { cancelSubscription } from './subscription-cancel.ts'
import { lastPeriodEndOf } from './subscription-items-params.ts'
import {
  layOutPhases,
  PHASE_REFUSES,
  phaseOfSubscription,
  type Phase,
  type StoredSchedule,
} from './subscription-schedule-phases.ts'
import {
  cancelSchedule,
  enterPhase,
  planEnd,
  releaseSchedule,
  scheduleRules,
  startSchedule,
} from './subscription-schedule-run.ts'
import { refuseItemized } from './subscription-new.ts'
import { isEnded, type StoredSubscription } from './subscription-status.ts'

const CREATE_TAKES = [
  'billing_mode',
  'customer',
  'default_settings',
  'end_behavior',
  'from_subscription',
  'metadata',
  'phases',
  'start_date',
] as const
const UPDATE_TAKES = ['default_settings', 'end_behavior', 'metadata', 'phases', 'proration_behavior'] as const

type CreateParams = Pick<Params['POST /v1/subscription_schedules'], (typeof CREATE_TAKES)[number]>
type UpdateParams = Pick<Params['POST /v1/subscription_schedules/{id}'], (typeof UPDATE_TAKES)[number]>
type Settings = StoredSchedule['default_settings']

function create(ctx: Ctx, params: CreateParams): StoredSchedule {
  if (params.from_subscription !== undefined) return createFrom(ctx, params, params.from_subscription)
  if (params.customer === undefined) throw missing('customer')
  if (params.phases === undefined) throw missing('phases')
  const customer = requireCustomer(ctx, params.customer, 'customer')
  const now = ctx.now(customer.id)
  const start = params.start_date === undefined || params.start_date === 'now' ? now : params.start_date
  const phases = layOutPhases(ctx, params.phases, {
    start,
    now,
    currency: customer.currency ?? null,
    proration: 'create_prorations',
  })
  refuseItemized(params.billing_mode?.flexible?.proration_discounts)
  const mode = params.billing_mode?.type ?? billingSettings(ctx).billingMode
  const schedule = ctx.create(
    'subscription_schedule',
    {
      ...blank(ctx, customer.id, mode),
      default_settings: settingsOf(defaultSettings(), params.default_settings),
      end_behavior: params.end_behavior ?? 'release',
      metadata: mergeMetadata({}, params.metadata),
      phases,
    },
    'subscription_schedule.created',
  )
  return start <= now ? startSchedule(ctx, schedule.id) : schedule
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
  ctx.change('subscription', id, { schedule: schedule.id }, 'customer.subscription.updated')
  return schedule
}

function requireFree(ctx: Ctx, subscription: StoredSubscription): void {
  if (isEnded(subscription))
    throw invalidRequest('You cannot create a subscription schedule from a canceled subscription.', {
      param: 'from_subscription',
    })
  if (subscription.schedule === null || ctx.get('subscription_schedule', subscription.schedule)?.status !== 'active') return
  throw invalidRequest(
    `You cannot migrate a subscription that is already attached to a schedule. The subscription is already attached to the following schedule: ${subscription.schedule}.`,
    { param: 'from_subscription' },
  )
}

function requireLive(ctx: Ctx, id: string): StoredSchedule {
  const schedule = ctx.require('subscription_schedule', id)
  if (schedule.status === 'active' || schedule.status === 'not_started') return schedule
  throw invalidRequest(`You cannot update a subscription schedule that is currently in the \`${schedule.status}\` status.`)
}

function update(ctx: Ctx, id: string, params: UpdateParams): StoredSchedule {
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
  if (current !== undefined && schedule.subscription !== null && params.phases !== undefined) {
    const subscription = ctx.require('subscription', schedule.subscription)
    if (differs(subscription, current)) {
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

/** Whether a phase asks for other items than the subscription has. */
function differs(subscription: StoredSubscription, phase: Phase): boolean {
  const has = subscription._.items.map((item) => `${item.price} ${item.quantity ?? ''}`).sort()
  const wants = phase.items.map((item) => `${item.price} ${item.quantity ?? ''}`).sort()
  return has.join() !== wants.join()
}

function cancel(ctx: Ctx, id: string, params: { invoice_now?: boolean; prorate?: boolean }): StoredSchedule {
  const schedule = requireLive(ctx, id)
  if (schedule.subscription === null || isEnded(ctx.require('subscription', schedule.subscription)))
    return cancelSchedule(ctx, schedule)
  cancelSubscription(ctx, schedule.subscription, { invoice_now: params.invoice_now ?? true, prorate: params.prorate ?? true })
  return ctx.require('subscription_schedule', id)
}

const operations = [
  operation({ on: 'POST /v1/subscription_schedules', takes: CREATE_TAKES, refuses: PHASE_REFUSES, run: create }),
  operation({
    on: 'POST /v1/subscription_schedules/{id}',
    takes: UPDATE_TAKES,
    refuses: PHASE_REFUSES,
    run: (ctx, params, { id }) => update(ctx, id, params),
  }),
  operation({
    on: 'GET /v1/subscription_schedules/{id}',
    takes: [],
    run: (ctx, _params, { id }) => ctx.require('subscription_schedule', id),
  }),
  operation({
    on: 'POST /v1/subscription_schedules/{id}/cancel',
    takes: ['invoice_now', 'prorate'],
    run: (ctx, params, { id }) => cancel(ctx, id, params),
  }),
  operation({
    on: 'POST /v1/subscription_schedules/{id}/release',
    takes: ['preserve_cancel_date'],
    run: (ctx, params, { id }) => releaseSchedule(ctx, requireLive(ctx, id), params.preserve_cancel_date === true),
  }),
  operation({
    on: 'GET /v1/subscription_schedules',
    takes: [
      'limit',
      'starting_after',
      'ending_before',
      'created',
      'canceled_at',
      'completed_at',
      'customer',
      'released_at',
      'scheduled',
    ],
    run: (ctx, params) =>
      list(ctx, 'subscription_schedule', params, {
        url: '/v1/subscription_schedules',
        by: ['customer', params.customer],
        where: (schedule) =>
          inRange(schedule.canceled_at, params.canceled_at) &&
          inRange(schedule.completed_at, params.completed_at) &&
          inRange(schedule.released_at, params.released_at) &&
          (params.scheduled !== true || schedule.status === 'not_started'),
      }),
  }),
]

export const subscriptionSchedulesModule: Module = { operations, rules: scheduleRules }
