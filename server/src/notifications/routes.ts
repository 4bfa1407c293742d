import { createRoute, z } from '@hono/zod-openapi'
import { html } from 'hono/html'
import { organizationFor, requireOperator, requireScope, type Principal } from '../auth/principal.ts'
import { asSystem } from '../db/scope.ts'
import { EVENT_TYPES, eventTypes, isEventType } from '../events/types.ts'
import type { App } from '../http/app.ts'
import { json } from '../http/route-schemas.ts'
import { DomainError } from '../lib/errors.ts'
import { choose, readPreferences, readStopToken, type NotificationsContext } from './actions.ts'
import { NOTIFICATION_KINDS, notificationKinds } from './kinds.ts'
import { renderNotification } from './mails.ts'
import { BILLING_ADDRESS } from './preference-store.ts'
import { messageOf } from './templates.ts'

const recipient = z.enum(['billing_address', 'me']).meta({ description: 'me: the person who is signed in.' })

const preferencesSchema = z
  .object({
    recipient,
    preferences: z.array(
      z.object({
        kind: z.enum(NOTIFICATION_KINDS),
        summary: z.string(),
        wanted: z.boolean(),
        can_decline: z.boolean(),
      }),
    ),
  })
  .openapi('NotificationPreferences')

const page = { description: 'A page.', content: { 'text/html': { schema: z.string() } } }

const read = createRoute({
  method: 'get',
  path: '/api/v1/notifications/preferences',
  tags: ['Notifications'],
  summary: 'Which mails about billing are wanted',
  description:
    'Of the billing address with the scope `admin`; with `recipient=me`, of the person who is signed in. Kinds with `can_decline: false` are sent in any case.',
  request: { query: z.object({ organization_id: z.string().optional(), recipient: recipient.default('billing_address') }) },
  responses: { 200: json('By kind.', preferencesSchema) },
})

const change = createRoute({
  method: 'put',
  path: '/api/v1/notifications/preferences',
  tags: ['Notifications'],
  summary: 'Ask for a kind of mail, or decline it',
  description: 'For the billing address: the scope admin. A person who is signed in chooses for themselves.',
  request: {
    query: z.object({ organization_id: z.string().optional() }),
    body: {
      required: true,
      content: {
        'application/json': {
          schema: z.strictObject({ recipient, kind: z.enum(NOTIFICATION_KINDS), wanted: z.boolean() }),
        },
      },
    },
  },
  responses: { 200: json('By kind.', preferencesSchema) },
})

const token = z.object({ token: z.string().min(1).max(2_000) })

const stopPage = createRoute({
  method: 'get',
  path: '/api/v1/notifications/stop',
  tags: ['Notifications'],
  summary: 'The page behind “no more mails of this kind”; it asks first, since mail programs look links up',
  description:
    'Nobody has to be signed in: the token of the link says whose mails and which kind. Changes nothing; the button on it does.',
  security: [],
  request: { query: token },
  responses: { 200: page },
})

const stop = createRoute({
  method: 'post',
  path: '/api/v1/notifications/stop',
  tags: ['Notifications'],
  summary: 'Decline a kind of mail, by the link in one',
  description:
    'Nobody has to be signed in: the token of the link says whose mails and which kind. Doing it again changes nothing.',
  security: [],
  request: { query: token },
  responses: { 200: page },
})

const preview = createRoute({
  method: 'get',
  path: '/api/v1/notifications/previews/{event_type}',
  tags: ['Notifications'],
  summary: 'The mail about an event, with the example of its type (operator)',
  description: 'Sends nothing. A type about which nobody is mailed is 404, which names those that there are.',
  request: {
    params: z.object({ event_type: z.string().meta({ example: 'dunning.reminder' }) }),
    query: z.object({
      format: z.enum(['html', 'text']).default('html'),
      step: z.string().optional().meta({ description: 'Of dunning.reminder: which one.' }),
    }),
  },
  responses: { 200: page },
})

/** Who wants which mails, and what they look like. */
export function registerNotificationRoutes(app: App, context: NotificationsContext): void {
  const { db, seal } = context
  app.openapi(read, async (c) => {
    const { organization_id: named, recipient: whose } = c.req.valid('query')
    const asked = recipientOf(c.get('principal'), named, whose)
    return c.json(show(whose, await readPreferences(db, asked.organizationId, asked.recipient)), 200)
  })
  app.openapi(change, async (c) => {
    const { recipient: whose, kind, wanted } = c.req.valid('json')
    const asked = recipientOf(c.get('principal'), c.req.valid('query').organization_id, whose)
    await choose(db, { ...asked, kind, wanted })
    return c.json(show(whose, await readPreferences(db, asked.organizationId, asked.recipient)), 200)
  })
  app.openapi(stopPage, async (c) => {
    const { kind } = readStopToken(seal, c.req.valid('query').token)
    return c.html(
      pageOf(notificationKinds[kind].summary, html`<form method="post"><button>No more mails of this kind</button></form>`),
    )
  })
  app.openapi(stop, async (c) => {
    const named = readStopToken(seal, c.req.valid('query').token)
    // Whose it is, the link says: nobody is signed in here.
    await asSystem(() => choose(db, { ...named, wanted: false }))
    return c.html(pageOf('You will get no more mails of this kind.', html``))
  })
  app.openapi(preview, async (c) => {
    requireOperator(c.get('principal'))
    const { event_type: type } = c.req.valid('param')
    const { format, step } = c.req.valid('query')
    const example = isEventType(type) ? eventTypes[type].example : null
    const data = step === undefined ? example : { ...example, step }
    const sample = { name: 'Acme', billingUrl: context.billingUrl }
    const message = isEventType(type) && eventTypes[type].data.safeParse(data).success ? messageOf(type, data, sample) : null
    if (message === null) {
      const mailed = EVENT_TYPES.filter((each) => messageOf(each, eventTypes[each].example, sample) !== null)
      throw new DomainError('not_found', `Nobody is mailed about this. There are mails about ${mailed.join(', ')}.`)
    }
    const mail = await renderNotification(message, { name: 'Acme', recipient: BILLING_ADDRESS, stopUrl: context.billingUrl })
    return format === 'text' ? c.text(mail.text) : c.html(mail.html)
  })
}

/** @throws DomainError `forbidden` for who is nobody that mails can be sent to */
function recipientOf(principal: Principal | null, named: string | undefined, whose: z.infer<typeof recipient>) {
  const caller = requireScope(principal, whose === 'me' ? 'read' : 'admin')
  const organizationId = organizationFor(caller, named)
  if (whose === 'billing_address') return { organizationId, recipient: BILLING_ADDRESS }
  if (caller.kind !== 'user') throw new DomainError('forbidden', 'Only a person who is signed in can choose for themselves.')
  return { organizationId, recipient: caller.userId }
}

function show(whose: z.infer<typeof recipient>, preferences: Awaited<ReturnType<typeof readPreferences>>) {
  return { recipient: whose, preferences: preferences.map(({ canDecline, ...rest }) => ({ ...rest, can_decline: canDecline })) }
}

function pageOf(sentence: string, below: ReturnType<typeof html>) {
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <title>Mails about billing</title>
      </head>
      <body style="max-width:34rem;margin:3rem auto;padding:0 1rem;font:16px/1.5 system-ui,sans-serif">
        <p>${sentence}</p>
        ${below}
      </body>
    </html>`
}
