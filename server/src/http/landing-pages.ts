import { html } from 'hono/html'
import type { App } from './app.ts'

/** Where checkout and portal send people when no page of an application is configured (MR-1, MR-2). */
const PAGES: Readonly<Record<string, { readonly title: string; readonly sentence: string }>> = {
  '/billing': { title: 'Billing', sentence: 'You can close this page.' },
  '/billing/success': { title: 'Thank you', sentence: 'The order is placed. You can close this page.' },
  '/billing/cancelled': { title: 'Nothing was charged', sentence: 'You left before paying. You can close this page.' },
}

export function registerLandingPages(app: App): void {
  for (const [path, { title, sentence }] of Object.entries(PAGES)) {
    app.get(path, (c) =>
      c.html(
        html`<!doctype html>
          <html lang="en">
            <head>
              <meta charset="utf-8" />
              <meta name="viewport" content="width=device-width, initial-scale=1" />
              <meta name="color-scheme" content="light dark" />
              <title>${title}</title>
              <style>
                body {
                  font:
                    1rem/1.5 system-ui,
                    sans-serif;
                  max-width: 32rem;
                  margin: 15vh auto;
                  padding: 0 1rem;
                }
              </style>
            </head>
            <body>
              <main>
                <h1>${title}</h1>
                <p>${sentence}</p>
              </main>
            </body>
          </html>`,
      ),
    )
  }
}
