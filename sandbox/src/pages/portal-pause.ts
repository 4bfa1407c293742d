import { boundary } from '../billing/periods.ts'
import type { Ctx } from '../engine/context.ts'
import { invalidRequest } from '../engine/errors.ts'
import { page } from '../http/pages.ts'
import { portalPauseKeepsStatus } from '../payments/inferred.ts'
import { pauseSubscription, resumeSubscription } from '../resources/subscriptions/pause.ts'
import type { StoredSubscription } from '../resources/subscriptions/stored.ts'
import { updateSubscription } from '../resources/subscriptions/update.ts'
import { renderOption } from './forms.ts'
import { html, type Html } from './html.ts'
import { formatDate } from './money.ts'
import { renderDecision } from './portal-flow-view.ts'
import { backOf, goOn, type Portal } from './portal-session.ts'
import { step, type Step } from './portal-step.ts'
import { subscriptionName } from './portal.ts'
import { respond, textOf } from './respond.ts'

interface Choice {
  readonly value: string
  readonly until: number
  readonly words: string
}

/** How long the customer may pause; empty where a pause has no end. */
function choicesOf(ctx: Ctx, portal: Portal, subscription: StoredSubscription): Choice[] {
  const { duration } = portal.configuration.features.subscription_pause
  if (duration.type === 'indefinite') return []
  const now = ctx.nowOf(subscription)
  return duration.interval_options.map(({ interval, interval_count: count }) => ({
    until: boundary({ at: now }, { count, interval }, 1),
    value: `${count}-${interval}`,
    words: `${count} ${interval}${count === 1 ? '' : 's'}`,
  }))
}

function questions(choices: readonly Choice[]): Html | null {
  if (choices.length === 0) return null
  return html`<fieldset>
    <legend>For how long?</legend>
    ${choices.map((choice, index) =>
      renderOption({
        checked: index === 0,
        detail: `until ${formatDate(choice.until)}`,
        label: choice.words,
        name: 'duration',
        value: choice.value,
      }),
    )}
  </fieldset>`
}

const showPause: Step = (ctx, portal, subscription, errors = {}) => {
  const choices = choicesOf(ctx, portal, subscription)
  const name = subscriptionName(ctx, subscription)
  const end = choices.length === 0 ? 'until you resume it' : 'during the pause'
  const content = renderDecision({
    back: backOf(portal),
    confirm: 'Pause subscription',
    errors,
    questions: questions(choices),
    text: `Nothing is charged for ${name} ${end}.`,
    title: `Pause ${name}`,
  })
  return respond(content)
}

function pause(ctx: Ctx, portal: Portal, subscription: StoredSubscription, duration: string): void {
  const choices = choicesOf(ctx, portal, subscription)
  if (!portalPauseKeepsStatus(choices.length === 0)) {
    pauseSubscription(ctx, subscription.id, { type: 'subscription' })
    return
  }
  const chosen = choices.find(({ value }) => value === duration)
  if (chosen === undefined) throw invalidRequest('Choose for how long to pause.', { param: 'duration' })
  updateSubscription(ctx, subscription.id, { pause_collection: { behavior: 'void', resumes_at: chosen.until } })
}

const showResume: Step = (ctx, portal, subscription, errors = {}) => {
  const name = subscriptionName(ctx, subscription)
  const text =
    subscription.status === 'paused'
      ? `${name} begins a new period now, which is charged.`
      : `${name} is charged again from its next renewal on.`
  return respond(renderDecision({ back: backOf(portal), confirm: 'Resume subscription', errors, text, title: `Resume ${name}` }))
}

const resume: Step = (ctx, portal, subscription) => {
  if (subscription.status === 'paused') resumeSubscription(ctx, subscription.id, { billing_cycle_anchor: { type: 'now' } })
  else updateSubscription(ctx, subscription.id, { pause_collection: '' })
  return goOn(ctx, portal, 'resumed')
}

const base = '/p/session/{token}/subscriptions/{subscription}' as const

/** Pausing and resuming, where the configuration allows it. */
export const portalPausePages = [
  page(`GET ${base}/pause`, (request) => step(request, 'subscription_pause', showPause)),
  page(`POST ${base}/pause`, (request) =>
    step(request, 'subscription_pause', showPause, (ctx, portal, subscription) => {
      pause(ctx, portal, subscription, textOf(request.form, 'duration'))
      return goOn(ctx, portal, 'paused')
    }),
  ),
  page(`GET ${base}/resume`, (request) => step(request, 'subscription_pause', showResume)),
  page(`POST ${base}/resume`, (request) => step(request, 'subscription_pause', showResume, resume)),
]
