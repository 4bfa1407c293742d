import { html } from 'hono/html'

/** What a mail says, before it is text and HTML. */
export type MailContent = {
  readonly subject: string
  /** Shown after the subject in a list of mails. */
  readonly preview: string
  readonly paragraphs: readonly string[]
  /** What is known, as pairs of a name and a value. */
  readonly facts?: readonly (readonly [name: string, value: string])[]
  readonly action?: { readonly label: string; readonly url: string }
  /** Why this mail was sent, and how to have no more of its kind. */
  readonly footer: readonly string[]
  readonly stop?: { readonly label: string; readonly url: string }
}

/** A mail's content as plain text and as HTML; everything is escaped. */
export async function renderMail(
  content: MailContent,
): Promise<{ readonly subject: string; readonly text: string; readonly html: string }> {
  return { subject: content.subject, text: renderText(content), html: await renderHtml(content) }
}

function renderText({ paragraphs, facts = [], action, footer, stop }: MailContent): string {
  const blocks = [
    ...paragraphs,
    ...(facts.length === 0 ? [] : [facts.map(([name, value]) => `${name}: ${value}`).join('\n')]),
    ...(action === undefined ? [] : [`${action.label}:\n${action.url}`]),
    `-- \n${[...footer, ...(stop === undefined ? [] : [`${stop.label}: ${stop.url}`])].join('\n')}`,
  ]
  return `${blocks.join('\n\n')}\n`
}

// Styles that mail programs keep stand on the elements; those of the head are for the ones that read it (dark mode). One column that is
// never wider than a phone's screen.
const TEXT = 'margin:0 0 16px;font-size:16px;line-height:24px;color:#1a1a1a'
const SMALL = 'margin:0 0 8px;font-size:13px;line-height:18px;color:#666666'
const BUTTON =
  'display:inline-block;padding:12px 20px;border-radius:6px;background:#1d4ed8;color:#ffffff;font-size:16px;line-height:24px;text-decoration:none'

async function renderHtml({ subject, preview, paragraphs, facts = [], action, footer, stop }: MailContent): Promise<string> {
  const rows = facts.map(
    ([name, value]) =>
      html`<tr>
        <td class="quiet" style="padding:4px 16px 4px 0;font-size:14px;line-height:20px;color:#666666;vertical-align:top">
          ${name}
        </td>
        <td class="text" style="padding:4px 0;font-size:14px;line-height:20px;color:#1a1a1a;overflow-wrap:anywhere">${value}</td>
      </tr>`,
  )
  const page = await html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <meta name="supported-color-schemes" content="light dark" />
        <title>${subject}</title>
        <style>
          @media (prefers-color-scheme: dark) {
            .page,
            .card {
              background: #161616 !important;
            }
            .text {
              color: #f2f2f2 !important;
            }
            .quiet {
              color: #a8a8a8 !important;
            }
            .button {
              background: #2563eb !important;
            }
          }
        </style>
      </head>
      <body
        class="page"
        style="margin:0;padding:0;background:#ffffff;font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
      >
        <div style="display:none;max-height:0;overflow:hidden">${preview}</div>
        <div class="card" style="max-width:560px;margin:0 auto;padding:24px 16px;background:#ffffff">
          <h1 class="text" style="margin:0 0 16px;font-size:20px;line-height:28px;color:#1a1a1a">${subject}</h1>
          ${paragraphs.map((paragraph) => html`<p class="text" style="${TEXT}">${paragraph}</p>`)}
          ${
            rows.length === 0
              ? ''
              : html`<table role="presentation" style="margin:0 0 16px;border-collapse:collapse">
                  ${rows}
                </table>`
          }
          ${
            action === undefined
              ? ''
              : html`<p style="margin:0 0 24px"><a class="button" href="${action.url}" style="${BUTTON}">${action.label}</a></p>`
          }
          ${footer.map((line) => html`<p class="quiet" style="${SMALL}">${line}</p>`)}
          ${
            stop === undefined
              ? ''
              : html`<p class="quiet" style="${SMALL}">
                  <a class="quiet" href="${stop.url}" style="color:#666666">${stop.label}</a>
                </p>`
          }
        </div>
      </body>
    </html>`
  return page.toString()
}
