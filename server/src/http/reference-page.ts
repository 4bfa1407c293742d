import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { html } from 'hono/html'
import type { App } from './app.ts'

const require = createRequire(import.meta.url)

/** Follows the reader's scheme, as every page of ours does. */
const START = `const dark = matchMedia('(prefers-color-scheme: dark)')
const follow = () => document.documentElement.classList.toggle('dark-mode', dark.matches)
dark.addEventListener('change', follow)
follow()
window.onload = () => {
  window.ui = SwaggerUIBundle({ url: '/openapi.json', dom_id: '#reference', deepLinking: true, persistAuthorization: false })
}
`

/** The files that the page loads, out of the package: it works without a network (decision 0005). */
const ASSETS: ReadonlyMap<string, { readonly type: string; read(): Promise<string> }> = new Map([
  ['swagger-ui.css', { type: 'text/css; charset=utf-8', read: () => readPackaged('swagger-ui.css') }],
  ['swagger-ui-bundle.js', { type: 'text/javascript; charset=utf-8', read: () => readPackaged('swagger-ui-bundle.js') }],
  ['start.js', { type: 'text/javascript; charset=utf-8', read: async () => START }],
])

async function readPackaged(name: string): Promise<string> {
  return readFile(require.resolve(`swagger-ui-dist/${name}`), 'utf8')
}

/** Only what the server itself serves may run or be shown. */
const POLICY = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"

/** `GET /docs`: the reference page of `/openapi.json`. */
export function registerReferencePage(app: App): void {
  app.get('/docs', (c) =>
    c.html(
      html`<!doctype html>
        <html lang="en">
          <head>
            <meta charset="utf-8" />
            <meta name="viewport" content="width=device-width, initial-scale=1" />
            <title>Tollgate API</title>
            <link rel="stylesheet" href="/docs/assets/swagger-ui.css" />
          </head>
          <body>
            <main id="reference">
              <noscript>The document itself is at <a href="/openapi.json">/openapi.json</a>.</noscript>
            </main>
            <script src="/docs/assets/swagger-ui-bundle.js"></script>
            <script src="/docs/assets/start.js"></script>
          </body>
        </html>`,
      200,
      { 'content-security-policy': POLICY },
    ),
  )
  app.get('/docs/assets/:name', async (c) => {
    const asset = ASSETS.get(c.req.param('name'))
    if (!asset) return c.notFound()
    return c.body(await asset.read(), 200, { 'content-type': asset.type, 'cache-control': 'public, max-age=3600' })
  })
}
