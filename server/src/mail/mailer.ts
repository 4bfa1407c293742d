import { createTransport } from 'nodemailer'

/** A mail as it goes out. `id` stays the same when it is sent again, and makes its Message-ID. */
export type OutgoingMail = {
  readonly id: string
  readonly to: string
  readonly subject: string
  readonly text: string
  readonly html: string
}

/** What sends mails. */
export type Mailer = {
  /**
   * Resolves when the mail was accepted.
   * @throws MailRefused when this mail will never be accepted; anything else is worth another try
   */
  send(mail: OutgoingMail): Promise<void>
  close(): Promise<void>
}

/** The server's final word about a mail: no such mailbox, not this content. */
export class MailRefused extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'MailRefused'
  }
}

export type SmtpOptions = {
  /** `smtp://user:password@host:587` or `smtps://…:465`. */
  readonly url: string
  /** An address, or `Name <address>`. */
  readonly from: string
}

const PATIENCE_MS = 20_000

/** Sends by SMTP. */
export function createSmtpMailer({ url, from }: SmtpOptions): Mailer {
  const transport = createTransport({
    url,
    pool: true,
    maxConnections: 2,
    // Trying again is our worker's work.
    maxRequeues: 0,
    connectionTimeout: PATIENCE_MS,
    greetingTimeout: PATIENCE_MS,
    socketTimeout: PATIENCE_MS,
    disableFileAccess: true,
    disableUrlAccess: true,
  })
  const domain = /@([^>\s]+)>?\s*$/.exec(from)?.[1] ?? 'localhost'
  return {
    async send({ id, to, ...content }) {
      try {
        await transport.sendMail({
          ...content,
          from,
          // As an object it is one address, whatever it contains.
          to: { name: '', address: to },
          messageId: `<${id}@${domain}>`,
          headers: { 'Auto-Submitted': 'auto-generated' },
        })
      } catch (error) {
        throw isFinal(error) ? new MailRefused(error.message, { cause: error }) : error
      }
    },
    async close() {
      transport.close()
    },
  }
}

/** A 5xx about the envelope or the message; one about the connection or the password is somebody else's mistake than this mail's. */
function isFinal(error: unknown): error is Error {
  if (!(error instanceof Error) || !('code' in error) || !('responseCode' in error)) return false
  const aboutMail = error.code === 'EENVELOPE' || error.code === 'EMESSAGE'
  return aboutMail && typeof error.responseCode === 'number' && error.responseCode >= 500
}
