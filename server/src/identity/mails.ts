import { createHash } from 'node:crypto'
import type { Db } from '../db/database.ts'
import type { Clock } from '../lib/clock.ts'
import { queueMails } from '../mail/actions.ts'
import { renderMail } from '../mail/layout.ts'

type Addressee = { readonly email: string; readonly name: string }

/** The mails that go to a person as such; each carries a token, which is blanked where it is kept once it is sent. */
export type MailTexts = {
  resetPassword(user: Addressee, token: string): Promise<void>
  /** `url` confirms the address as soon as it is looked up. */
  verifyEmail(user: Addressee, link: { readonly url: string; readonly token: string }): Promise<void>
}

export type MailTextsOptions = {
  readonly db: Db
  readonly clock: Clock
  readonly publicUrl: string
}

export function createMailTexts({ db, clock, publicUrl }: MailTextsOptions): MailTexts {
  async function queue(kind: string, user: Addressee, mail: { token: string; subject: string; sentence: string; link: string }) {
    const { token, subject, sentence, link } = mail
    // The token makes the mail one; its digest, as the key is kept.
    const key = `${kind}:${createHash('sha256').update(token).digest('hex').slice(0, 32)}`
    const rendered = await renderMail({
      subject,
      preview: sentence,
      paragraphs: [`Hello ${user.name},`, sentence],
      action: { label: subject, url: link },
      footer: ['If this was not you, do nothing: nothing happens without the link.'],
    })
    await queueMails(db, [{ ...rendered, key, organizationId: null, kind, to: user.email, secret: true }], clock.now())
  }
  return {
    resetPassword: (user, token) =>
      queue('password_reset', user, {
        token,
        subject: 'Set a new password',
        sentence: 'A new password was asked for. The link sets one, within an hour.',
        // After #, so that it is in no server's log.
        link: `${publicUrl}/account/password#token=${token}`,
      }),
    verifyEmail: (user, { url, token }) =>
      queue('email_verification', user, {
        token,
        subject: 'Confirm your address',
        sentence: 'The link confirms that the address is yours, within an hour.',
        // To a page that asks first: mail programs look links up, also those of people who never signed up.
        link: `${publicUrl}/account/confirmation#${new URL(url).searchParams.toString()}`,
      }),
  }
}
