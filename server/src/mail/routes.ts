import { createRoute, z } from '@hono/zod-openapi'
import { organizationOrAll, requireOperator } from '../auth/principal.ts'
import type { Db } from '../db/database.ts'
import type { App } from '../http/app.ts'
import { findStart, pageOf, pageQuery } from '../http/page-query.ts'
import { json } from '../http/route-schemas.ts'
import type { Clock } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import { findMail, listMails, reopenMail, type MailRow } from './store.ts'

const state = z.enum(['pending', 'sent', 'kept', 'failed']).meta({ description: 'kept: no SMTP server is set; it is read here.' })

const mailSchema = z
  .object({
    id: z.string(),
    organization_id: z.string().nullable(),
    kind: z.string(),
    to: z.string(),
    subject: z.string(),
    state,
    attempts: z.number().int(),
    last_error: z.string().nullable(),
    created_at: z.iso.datetime(),
    finished_at: z.iso.datetime().nullable(),
  })
  .openapi('Mail')

const fullMailSchema = mailSchema
  .extend({
    text: z.string().nullable().meta({ description: 'null once a mail that held a secret was sent.' }),
    html: z.string().nullable(),
  })
  .openapi('MailWithBody')

const params = z.object({ mail_id: z.string() })

const listRoute = createRoute({
  method: 'get',
  path: '/api/v1/mails',
  tags: ['Notifications'],
  summary: 'List mails, newest first (operator)',
  description:
    'Of all organizations, or the one that is named. `kept` are those that wait to be read here, as no SMTP server is set. Page on with the last id as `starting_after`.',
  request: {
    query: z.object({
      organization_id: z.string().optional(),
      to: z.string().optional(),
      state: state.optional(),
      ...pageQuery({ most: 200, usual: 50 }),
    }),
  },
  responses: { 200: json('The mails.', z.object({ mails: z.array(mailSchema), has_more: z.boolean() })) },
})

const readRoute = createRoute({
  method: 'get',
  path: '/api/v1/mails/{mail_id}',
  tags: ['Notifications'],
  summary: 'Read a mail (operator)',
  description: 'With its text. That of a mail which held a secret, an invitation say, is gone once it was sent.',
  request: { params },
  responses: { 200: json('The mail.', fullMailSchema) },
})

const resendRoute = createRoute({
  method: 'post',
  path: '/api/v1/mails/{mail_id}/resend',
  tags: ['Notifications'],
  summary: 'Send a mail that failed or was kept (operator)',
  description: 'It is due again at once, and goes out in the background. One that was sent already is 409.',
  request: { params },
  responses: { 200: json('The mail, due again.', mailSchema) },
})

/** The operator's view of what was mailed. */
export function registerMailRoutes(app: App, { db, clock }: { db: Db; clock: Clock }): void {
  app.openapi(listRoute, async (c) => {
    const operator = requireOperator(c.get('principal'))
    const { organization_id: named, to: recipient = null, state = null, limit, ...from } = c.req.valid('query')
    const organizationId = organizationOrAll(operator, named)
    const after = await findStart(from.starting_after, (id) => findMail(db, id))
    const found = await listMails(db, { organizationId, recipient, state, after: after?.id ?? null, limit: limit + 1 })
    const { page, hasMore } = pageOf(found, limit)
    return c.json({ mails: page.map(showMail), has_more: hasMore }, 200)
  })
  app.openapi(readRoute, async (c) => {
    requireOperator(c.get('principal'))
    const mail = await readMail(db, c.req.valid('param').mail_id)
    return c.json({ ...showMail(mail), text: mail.text, html: mail.html }, 200)
  })
  app.openapi(resendRoute, async (c) => {
    requireOperator(c.get('principal'))
    const { mail_id: id } = c.req.valid('param')
    await readMail(db, id)
    if (!(await reopenMail(db, id, clock.now()))) throw new DomainError('conflict', 'This mail was sent already.')
    return c.json(showMail(await readMail(db, id)), 200)
  })
}

async function readMail(db: Db, id: string): Promise<MailRow> {
  const mail = await findMail(db, id)
  if (mail === null) throw new DomainError('not_found', 'There is no such mail.')
  return mail
}

function showMail(mail: MailRow): z.infer<typeof mailSchema> {
  return {
    id: mail.id,
    organization_id: mail.organizationId,
    kind: mail.kind,
    to: mail.recipient,
    subject: mail.subject,
    state: mail.state,
    attempts: mail.attempts,
    last_error: mail.lastError,
    created_at: mail.createdAt.toISOString(),
    finished_at: mail.finishedAt?.toISOString() ?? null,
  }
}
