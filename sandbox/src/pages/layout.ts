import type { Html, Interpolated } from './html.ts'
import { html } from './html.ts'

/** Where the stylesheet is served. */
export const stylesheetPath = '/assets/sandbox.css'

export interface PageFrame {
  /** The document's title; names the page first. */
  readonly title: string
  readonly body: Interpolated
  /** Use the whole width: for tables and two columns. */
  readonly wide?: boolean
  /** A problem is on the page: the title says so first, because a screen reader speaks it first. */
  readonly problem?: boolean
}

/** The frame of every page: test-mode bar, skip link, main region. Needs no script. */
export function renderPage({ title, body, wide = false, problem = false }: PageFrame): Html {
  return html`<html lang="en">
    <head>
      <meta charset="utf-8" />
      <meta name="viewport" content="width=device-width, initial-scale=1" />
      <meta name="robots" content="noindex" />
      <meta name="referrer" content="no-referrer" />
      <title>${problem ? 'Error: ' : ''}${title}</title>
      <link rel="icon" href="data:," />
      <link rel="stylesheet" href="${stylesheetPath}" />
    </head>
    <body>
      <a class="skip" href="#main">Skip to content</a>
      <header class="bar"><strong>Sandbox</strong><span>Test mode. No real money moves.</span></header>
      <main id="main" ${wide ? html` class="wide"` : null}>${body}</main>
    </body>
  </html>`
}

/** A page that only says something, with at most one way on. */
export function renderMessage(message: {
  readonly title: string
  readonly text: Interpolated
  readonly link?: { readonly href: string; readonly label: string } | null
}): Html {
  const { title, text, link } = message
  return renderPage({
    title,
    body: html`<div class="card">
      <h1>${title}</h1>
      <p>${text}</p>
      ${link && html`<a class="button" href="${link.href}">${link.label}</a>`}
    </div>`,
  })
}
