import { inRange, list } from '../../engine/lists.ts'
import { type Module, operation } from '../../engine/module.ts'
import { PHASE_REFUSES } from './schedule-phases.ts'
import { releaseSchedule, scheduleRules } from './schedule-run.ts'
import {
  createSchedule,
  endScheduleNow,
  requireLive,
  SCHEDULE_CREATE_TAKES,
  SCHEDULE_UPDATE_TAKES,
  updateSchedule,
} from './schedule-write.ts'

const operations = [
  operation({ on: 'POST /v1/subscription_schedules', takes: SCHEDULE_CREATE_TAKES, refuses: PHASE_REFUSES, run: createSchedule }),
  operation({
    on: 'POST /v1/subscription_schedules/{id}',
    takes: SCHEDULE_UPDATE_TAKES,
    refuses: PHASE_REFUSES,
    run: (ctx, params, { id }) => updateSchedule(ctx, id, params),
  }),
  operation({
    on: 'GET /v1/subscription_schedules/{id}',
    takes: [],
    run: (ctx, _params, { id }) => ctx.require('subscription_schedule', id),
  }),
  operation({
    on: 'POST /v1/subscription_schedules/{id}/cancel',
    takes: ['invoice_now', 'prorate'],
    run: (ctx, params, { id }) => endScheduleNow(ctx, id, params),
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
