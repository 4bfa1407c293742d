import { html } from 'hono/html'
import { ERRORS_PAGE, PROBLEMS } from './problems.ts'
import type { App } from './app.ts'

/** On a phone a code goes on in the next line after one of its words, and not within it. */
const breakable = (code: string) => code.split('_').map((word, index) => (index === 0 ? word : html`_<wbr />${word}`))

/** Serves the page that the `type` of every problem document points to, made from the table that decides the statuses. */
export function registerErrorsPage(app: App): void {
  app.get(ERRORS_PAGE, (context) =>
    context.html(
      html`<!doctype html>
        <html lang="en">
          <head>
            <meta charset="utf-8" />
            <meta name="viewport" content="width=device-width, initial-scale=1" />
            <meta name="color-scheme" content="light dark" />
            <title>Errors of the Tollgate API</title>
            <style>
              body {
                font:
                  1rem/1.5 system-ui,
                  sans-serif;
                max-width: 48rem;
                margin: 2rem auto;
                padding: 0 1rem;
              }
              td,
              th {
                text-align: left;
                vertical-align: top;
                padding: 0.25rem 1rem 0.25rem 0;
              }
              :target {
                outline: 2px solid;
              }
            </style>
          </head>
          <body>
            <main>
              <h1>Errors</h1>
              <p>
                An error is a problem document (RFC 9457): <code>code</code> names it, <code>detail</code> says it in a sentence.
              </p>
              <table>
                <thead>
                  <tr>
                    <th>code</th>
                    <th>status</th>
                    <th>meaning</th>
                  </tr>
                </thead>
                <tbody>
                  ${Object.entries(PROBLEMS).map(
                    ([code, kind]) =>
                      html`<tr id="${code}">
                        <td><code>${breakable(code)}</code></td>
                        <td>${kind.status}</td>
                        <td>
                          ${kind.title}.${kind.retryAfterSeconds === undefined ? '' : ` Try again after ${kind.retryAfterSeconds} s.`}
                        </td>
                      </tr>`,
                  )}
                  <tr id="internal_error">
                    <td><code>internal_error</code></td>
                    <td>500</td>
                    <td>The server failed. The log has it under the same request id.</td>
                  </tr>
                </tbody>
              </table>
            </main>
          </body>
        </html>`,
    ),
  )
}
