import { beforeEach, describe, expect, it } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { testSmtp } from '../../test/smtp.ts'
import { ManualClock } from '../lib/clock.ts'
import { DAY_MS, HOUR_MS, MINUTE_MS } from '../lib/period.ts'
import { queueMails, sendDueMails, type MailContext, type NewMail } from './actions.ts'
import { createSmtpMailer, type Mailer } from './mailer.ts'
import { findMail, listMails, reopenMail } from './store.ts'

const database = testDatabase()
const smtp = testSmtp()
const clock = new ManualClock(new Date('2026-03-01T12:00:00Z'))
let outcomes: string[] = []

beforeEach(async () => {
  smtp.received.length = 0
  smtp.answer = () => '250 ok'
  outcomes = []
  await database.db.query('truncate mails')
})

function mail(to: string, more: Partial<NewMail> = {}): NewMail {
  const content = { subject: 'Your trial ends', text: 'In three days.', html: '<p>In three days.</p>' }
  return { key: 'trial:sub_1', organizationId: null, kind: 'trial', to, ...content, ...more }
}

async function withMailer<Result>(work: (context: MailContext & { mailer: Mailer }) => Promise<Result>): Promise<Result> {
  const mailer = createSmtpMailer({ url: smtp.url, from: 'Acme Billing <billing@example.com>' })
  try {
    return await work({ db: database.db, clock, mailer, onMail: (outcome) => void outcomes.push(outcome) })
  } finally {
    await mailer.close()
  }
}

const stored = (): ReturnType<typeof listMails> =>
  listMails(database.db, { organizationId: null, recipient: null, state: null, limit: 50 })

describe('a mail', () => {
  it('is stored once for each recipient, and sent once, whoever asks and whoever sends', async () => {
    const counts = await Promise.all(
      Array.from({ length: 5 }, () =>
        database.db.transaction((tx) => queueMails(tx, [mail('a@example.com'), mail('A@example.com')], clock.now())),
      ),
    )
    expect(counts.reduce((sum, count) => sum + count)).toBe(1)
    await withMailer((context) => Promise.all([1, 2, 3, 4].map(() => sendDueMails(context))))
    expect(smtp.received.map(({ to }) => to)).toEqual(['a@example.com'])
    expect(await stored()).toMatchObject([{ state: 'sent', attempts: 1 }])
  })

  it('is text and HTML, from whom it is said to be, under the Message-ID of its id', async () => {
    await queueMails(database.db, [mail('a@example.com')], clock.now())
    await withMailer(sendDueMails)
    const [{ source }] = smtp.received as unknown as [{ source: string }]
    const [{ id }] = (await stored()) as unknown as [{ id: string }]
    expect(source).toContain(`Message-ID: <${id}@example.com>`)
    expect(source).toContain('From: Acme Billing <billing@example.com>')
    expect(source).toContain('Subject: Your trial ends')
    expect(source).toMatch(/multipart\/alternative[\s\S]*In three days\.[\s\S]*<p>In three days\.<\/p>/)
  })

  it('whose server is away, or busy, is tried again later, under the same Message-ID', async () => {
    await queueMails(database.db, [mail('a@example.com')], clock.now())
    smtp.answer = () => '451 try again later'
    await withMailer(async (context) => {
      expect(await sendDueMails(context)).toBe(1)
      expect(await sendDueMails(context)).toBe(0)
      expect(await stored()).toMatchObject([
        { state: 'pending', attempts: 1, lastError: expect.stringContaining('451') as string },
      ])
      smtp.answer = () => '250 ok'
      clock.advance(MINUTE_MS)
      expect(await sendDueMails(context)).toBe(1)
    })
    expect(smtp.received).toHaveLength(1)
    expect(outcomes).toEqual(['retried', 'sent'])
  })

  it('that was claimed by a server that died is sent by another when the lease is over', async () => {
    await queueMails(database.db, [mail('a@example.com')], clock.now())
    const dying: Mailer = { send: () => new Promise(() => undefined), close: async () => undefined }
    void sendDueMails({ db: database.db, clock, mailer: dying })
    await expect.poll(async () => (await stored())[0]?.attempts).toBe(1)
    await withMailer(async (context) => {
      expect(await sendDueMails(context)).toBe(0)
      clock.advance(2 * MINUTE_MS)
      expect(await sendDueMails(context)).toBe(1)
    })
    expect(smtp.received).toHaveLength(1)
  })

  it('to a mailbox that is not there fails at once, and others go on', async () => {
    smtp.answer = (to) => (to.startsWith('gone') ? '550 no such mailbox' : '250 ok')
    await queueMails(database.db, [mail('gone@example.com'), mail('b@example.com')], clock.now())
    await withMailer(sendDueMails)
    expect(outcomes.sort()).toEqual(['failed', 'sent'])
    expect(smtp.received.map(({ to }) => to)).toEqual(['b@example.com'])
  })

  it.each([
    ['550 no\0such mailbox', 'failed'],
    ['451 later\0please', 'retried'],
  ])('that is answered %j is %s like any other: PostgreSQL stores no NUL', async (answer, outcome) => {
    smtp.answer = () => answer
    await queueMails(database.db, [mail('a@example.com')], clock.now())
    await withMailer(sendDueMails)
    expect(outcomes).toEqual([outcome])
    expect((await stored())[0]?.lastError).toMatch(/such mailbox|please/)
  })

  it('is given up after three days, and sent after all when an operator says so', async () => {
    await queueMails(database.db, [mail('a@example.com')], clock.now())
    smtp.answer = () => '451 try again later'
    await withMailer(async (context) => {
      for (let hours = 0; hours <= 74; hours += 2) {
        await sendDueMails(context)
        clock.advance(2 * HOUR_MS)
      }
      const [failed] = await stored()
      expect(failed).toMatchObject({ state: 'failed' })
      expect(failed!.finishedAt!.getTime() - failed!.createdAt.getTime()).toBeGreaterThanOrEqual(3 * DAY_MS)
      smtp.answer = () => '250 ok'
      expect(await reopenMail(database.db, failed!.id, clock.now())).toBe(true)
      await sendDueMails(context)
      expect(await reopenMail(database.db, failed!.id, clock.now())).toBe(false)
    })
    expect(smtp.received).toHaveLength(1)
  })

  it('without an SMTP server is kept, with its text', async () => {
    await queueMails(database.db, [mail('a@example.com', { secret: true })], clock.now())
    await sendDueMails({ db: database.db, clock, mailer: null })
    expect(await stored()).toMatchObject([{ state: 'kept', text: 'In three days.' }])
  })

  it('that held a secret holds nothing once it was sent', async () => {
    await queueMails(database.db, [mail('a@example.com', { secret: true })], clock.now())
    await withMailer(sendDueMails)
    const [{ id }] = (await stored()) as unknown as [{ id: string }]
    expect(await findMail(database.db, id)).toMatchObject({ state: 'sent', text: null, html: null })
  })

  it('cannot be made to go to somebody else, or to carry other headers', async () => {
    await queueMails(
      database.db,
      [mail('a@example.com, b@example.com'), mail('c@example.com', { subject: 'Hello\r\nBcc: d@example.com' })],
      clock.now(),
    )
    await withMailer(sendDueMails)
    const everybody = smtp.received.map(({ to }) => to)
    expect(everybody).not.toContain('b@example.com')
    expect(everybody).not.toContain('d@example.com')
    for (const { source } of smtp.received) expect(source).not.toMatch(/^Bcc:/m)
  })
})
