import type { EventData, EventType } from '../events/types.ts'
import { formatMajor, minorDigits } from '../lib/money.ts'
import type { MailContent } from '../mail/layout.ts'
import type { NotificationKind } from './kinds.ts'

/** What a mail says about an event; who gets it and why is added by who sends it. */
export type Message = Omit<MailContent, 'footer' | 'stop'>

export type MessageContext = {
  /** The organization's. */
  readonly name: string
  /** Where its people see and change their billing. */
  readonly billingUrl: string
}

type Write<Type extends EventType> = (data: EventData<Type>, context: MessageContext) => Message

/** Of which kind the mail about a type of event is, and what it says. Types that are not here are not mailed. */
const TEMPLATES: { readonly [Type in EventType]?: readonly [kind: NotificationKind, write: Write<Type>] } = {
  'subscription.trial_will_end': ['trial', trialEnding],
  'dunning.reminder': ['payment', dunning],
  'payment_method.expiring': ['card', cardExpiring],
  'subscription.canceled': ['subscription', subscriptionEnded],
  'usage.threshold_reached': ['usage', thresholdReached],
  'usage.balance_low': ['usage', balanceLow],
  'auto_top_up.stopped': ['payment', autoTopUpStopped],
  'endpoint.disabled': ['webhooks', endpointDisabled],
}

/** null when nobody is mailed about such events. */
export function kindOf(type: EventType): NotificationKind | null {
  return TEMPLATES[type]?.[0] ?? null
}

/** The mail about an event whose data has the shape of its type; null when nobody is mailed about it. Pure. */
export function messageOf(type: EventType, data: unknown, context: MessageContext): Message | null {
  const write = TEMPLATES[type]?.[1] as ((data: unknown, context: MessageContext) => Message) | undefined
  return write === undefined ? null : write(data, context)
}

function trialEnding(data: EventData<'subscription.trial_will_end'>, { name, billingUrl }: MessageContext): Message {
  const end = dayOf(data.trial_ends_at)
  const plan = nameOf(data.plan, data.plan_name)
  const common = {
    subject: `Your trial of ${plan} ends on ${end}`,
    facts: [
      ['Plan', plan],
      ['Trial ends', timeOf(data.trial_ends_at)],
    ],
  } satisfies Partial<Message>
  // Missing where the event is from before it had the field.
  if (data.cancel_at != null) {
    return {
      ...common,
      preview: 'The plan ends with it.',
      paragraphs: [`The trial of ${name} ends on ${end}, and the plan ends with it, as you have cancelled. Nothing is charged.`],
      action: { label: 'Keep the plan', url: billingUrl },
    }
  }
  return {
    ...common,
    preview: data.payment_method_configured ? 'It goes on as a subscription.' : 'Add a payment method to keep the plan.',
    paragraphs: data.payment_method_configured
      ? [`The trial of ${name} ends on ${end}. It then goes on as a subscription, paid with the payment method that you gave.`]
      : [`The trial of ${name} ends on ${end}. Add a payment method before, and the plan goes on without a gap.`],
    action: { label: data.payment_method_configured ? 'See your billing' : 'Add a payment method', url: billingUrl },
  }
}

function dunning(data: EventData<'dunning.reminder'>, context: MessageContext): Message {
  const { charged_back: chargedBack } = data
  // Null too where the event is from before it had the field.
  if (chargedBack != null && data.step !== 'recovered') return dunningOfDispute(data, chargedBack, context)
  const { name, billingUrl } = context
  const { step, currency, amount_due_minor: due, recovery_url: url, suspends_at: suspendsAt } = data
  const amount = due === null || currency === null ? null : moneyOf(due, currency)
  const suspension = timeOf(suspendsAt)
  const facts: [string, string][] = [['Organization', name]]
  if (amount !== null) facts.push(['Amount due', amount])
  if (step !== 'suspended' && step !== 'recovered') facts.push(['Use stops', suspension])
  const pay = { label: amount === null ? 'Pay now' : `Pay ${amount}`, url: url ?? billingUrl }
  const common = { facts, action: pay }
  switch (step) {
    case 'failed':
      return {
        ...common,
        subject: 'Your payment failed',
        preview: `Everything goes on until ${suspension}.`,
        paragraphs: [
          'We could not charge your payment method.',
          `Everything goes on as before until ${suspension}. Pay, or change the payment method, before then.`,
        ],
      }
    case 'reminder':
      return {
        ...common,
        subject: 'Your payment is still open',
        preview: `Use stops on ${suspension}.`,
        paragraphs: ['A payment is still open.', `Use stops on ${suspension}, unless it is paid before.`],
      }
    case 'last_warning':
      return {
        ...common,
        subject: 'Use stops tomorrow unless you pay',
        preview: `It stops on ${suspension}.`,
        paragraphs: [`A payment is still open. Use stops on ${suspension}.`, 'Paying before then keeps everything going.'],
      }
    case 'suspended':
      return {
        ...common,
        subject: 'Use has stopped: a payment is open',
        preview: 'Paying starts it again at once.',
        paragraphs: ['A payment was not made in time, and use has stopped.', 'Nothing is lost. Paying starts it again at once.'],
      }
    case 'recovered':
      return {
        subject: 'Thank you, everything is paid',
        preview: 'Use goes on.',
        paragraphs: [`The open payment of ${name} has arrived. Use goes on.`],
        action: { label: 'See your billing', url: billingUrl },
      }
  }
}

type ChargedBack = NonNullable<EventData<'dunning.reminder'>['charged_back']>

/** A payment that the bank took back: what happened, how much it is about, and what to do. */
function dunningOfDispute(
  { step, suspends_at: suspendsAt }: EventData<'dunning.reminder'>,
  { amount_minor: amountMinor, currency }: ChargedBack,
  { name, billingUrl }: MessageContext,
): Message {
  const amount = moneyOf(amountMinor, currency)
  const suspension = timeOf(suspendsAt)
  const hasStopped = step === 'suspended'
  const subject = {
    failed: `A payment of ${amount} was charged back`,
    reminder: `A payment of ${amount} that was charged back is still open`,
    last_warning: 'Use stops tomorrow unless you pay what was charged back',
    suspended: 'Use has stopped: a payment was charged back',
    recovered: '',
  }[step]
  return {
    subject,
    preview: hasStopped ? 'Paying starts it again at once.' : `Use stops on ${suspension}.`,
    paragraphs: [
      `A payment of ${amount} for ${name} was disputed at your bank, which took it back.`,
      hasStopped
        ? 'Use has stopped. Nothing is lost: paying it again starts it at once.'
        : `Use goes on until ${suspension}. Pay it again before then, or write to us if this is a mistake.`,
    ],
    facts: [['Organization', name], ['Charged back', amount], ...(hasStopped ? [] : [['Use stops', suspension] as const])],
    action: { label: `Pay ${amount}`, url: billingUrl },
  }
}

function cardExpiring(data: EventData<'payment_method.expiring'>, { name, billingUrl }: MessageContext): Message {
  const card = `${data.brand ?? 'card'} ending in ${data.last4 ?? '????'}`
  return {
    subject: `Your ${card} expires soon`,
    preview: 'Add another one, and nothing is interrupted.',
    paragraphs: [
      `The card that pays for ${name} expires at the end of ${monthOf(data.exp_year, data.exp_month)}.`,
      'Add another one before, and nothing is interrupted.',
    ],
    facts: [
      ['Card', card],
      ['Expires', `${String(data.exp_month).padStart(2, '0')}/${data.exp_year}`],
    ],
    action: { label: 'Change the card', url: billingUrl },
  }
}

function subscriptionEnded(_data: EventData<'subscription.canceled'>, { name, billingUrl }: MessageContext): Message {
  return {
    subject: 'Your subscription has ended',
    preview: 'The free plan counts now.',
    paragraphs: [
      `The subscription of ${name} has ended. What the free plan allows goes on.`,
      'You can subscribe again at any time.',
    ],
    action: { label: 'See the plans', url: billingUrl },
  }
}

function thresholdReached(data: EventData<'usage.threshold_reached'>, { name, billingUrl }: MessageContext): Message {
  const allowance = `allowance of ${nameOf(data.balance, data.balance_name)}`
  const all = data.percent >= 100
  const facts: [string, string][] = [['Used', `${data.used} of ${data.amount}`]]
  if (data.period_end !== null) facts.push(['Starts again', timeOf(data.period_end)])
  return {
    subject: all ? `Your ${allowance} is used up` : `${data.percent} % of your ${allowance} is used`,
    preview: `${data.used} of ${data.amount} used.`,
    paragraphs: [`${name} has used ${data.percent} % of its ${allowance}${data.period_end === null ? '' : ' in this period'}.`],
    facts,
    action: { label: 'See your use', url: billingUrl },
  }
}

function balanceLow(data: EventData<'usage.balance_low'>, { name, billingUrl }: MessageContext): Message {
  const balance = `balance of ${nameOf(data.balance, data.balance_name)}`
  return {
    subject: `Your ${balance} is low`,
    preview: `${data.remaining} left.`,
    paragraphs: [`The ${balance} is low: ${name} has ${data.remaining} left.`],
    action: { label: 'See your balance', url: billingUrl },
  }
}

function autoTopUpStopped(data: EventData<'auto_top_up.stopped'>, { name, billingUrl }: MessageContext): Message {
  const balance = nameOf(data.balance, data.balance_name)
  const subject = `Your balance of ${balance} is no longer topped up`
  const facts: Message['facts'] = [['Top-up', data.top_up]]
  if (data.code === 'invalid_request') {
    return {
      subject,
      preview: 'The package is no longer sold.',
      paragraphs: [`The package with which ${name} tops up ${balance} is no longer sold. Nothing more is bought by itself.`],
      facts,
      action: { label: 'See what there is', url: billingUrl },
    }
  }
  if (data.code === 'tax_location_missing') {
    return {
      subject,
      preview: 'Your billing address is missing.',
      paragraphs: [
        `Without an address of ${name}, the tax on what tops up ${balance} cannot be worked out. Nothing more is bought by itself until it is there.`,
      ],
      facts,
      action: { label: 'Add your address', url: billingUrl },
    }
  }
  return {
    subject,
    preview: 'A payment failed.',
    paragraphs: [
      `A payment failed when ${name} was to be topped up. Nothing more is bought by itself.`,
      'Change the payment method and switch it on again, or buy by hand.',
    ],
    facts,
    action: { label: 'Change the payment method', url: billingUrl },
  }
}

function endpointDisabled(data: EventData<'endpoint.disabled'>, { name, billingUrl }: MessageContext): Message {
  const why = data.reason === 'gone' ? 'It answered that it is gone (410).' : 'It failed for three days.'
  return {
    subject: 'A webhook endpoint was disabled',
    preview: why,
    paragraphs: [
      `An endpoint of ${name} is told of nothing more. ${why}`,
      'Enable it when it answers again, and replay what it missed.',
    ],
    facts: [
      ['Endpoint', data.url],
      ['Id', data.endpoint_id],
    ],
    action: { label: 'See your endpoints', url: billingUrl },
  }
}

/**
 * What the catalog calls something; its key where the event is from before it had the name. It may be one thing (`agent`), many
 * (`credits`) or what is not counted (`storage`): no verb is to agree with it.
 */
function nameOf(key: string, name: string | undefined): string {
  return name ?? key
}

function moneyOf(amountMinor: number, currency: string): string {
  const digits = minorDigits(currency)
  const format = new Intl.NumberFormat('en-US', {
    style: 'currency',
    currency,
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
  })
  // As a decimal text: money never becomes a float.
  return format.format(formatMajor({ amountMinor, currency }) as `${number}`)
}

function dayOf(time: string): string {
  return new Intl.DateTimeFormat('en-GB', { dateStyle: 'long', timeZone: 'UTC' }).format(new Date(time))
}

function timeOf(time: string): string {
  return `${new Intl.DateTimeFormat('en-GB', { dateStyle: 'long', timeStyle: 'short', timeZone: 'UTC' }).format(new Date(time))} UTC`
}

function monthOf(year: number, month: number): string {
  return new Intl.DateTimeFormat('en-GB', { month: 'long', year: 'numeric', timeZone: 'UTC' }).format(
    Date.UTC(year, month - 1, 1),
  )
}
