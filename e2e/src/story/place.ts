import { startSandbox, type Sandbox } from '@tollgate/stripe-sandbox'
import { afterAll, beforeAll } from 'vitest'
import { createLog } from '../../../server/src/http/log.ts'
import { serve, type HttpServer } from '../../../server/src/http/serve.ts'
import { stripeAt } from '../../../server/src/sandbox.ts'
import { createTollgate, type Tollgate } from '../../../server/src/tollgate.ts'
import { testDatabase } from '../../../server/test/database.ts'
import { createCaller, type Caller } from '../http.ts'
import { STORY_CATALOG } from './catalog.ts'

const OPERATOR_KEY = 'the operator key of this story'
const SECRET = 'whsec_story'

/** A server and a Stripe sandbox of the calling file's own, and the one customer that a story is about. */
export type Place = {
  newCustomer(): Promise<Customer>
}

export type Customer = {
  readonly id: string
  /** Calls as the customer's own application, with every scope. */
  readonly own: Caller
  readonly operator: Caller
  /** Stripe's own word, by its API. */
  readonly stripe: Stripe
}

export type Stripe = {
  list(path: string): Promise<readonly StripeObject[]>
  post(path: string, form: Readonly<Record<string, string>>): Promise<{ status: number; body: StripeObject }>
}

/** An object of Stripe's; the books read fields of it by name. */
export type StripeObject = Readonly<Record<string, unknown>>

/** Call it once at the top of a file. */
export function storyPlace(): Place {
  const database = testDatabase()
  let server: HttpServer
  let sandbox: Sandbox
  let tollgate: Tollgate | null = null
  let url: string

  beforeAll(async () => {
    server = await serve({
      host: '127.0.0.1',
      port: 0,
      fetch: (request, connection) => tollgate!.fetch(request, connection),
      preHandler: (request, response) => tollgate?.preHandler(request, response) ?? false,
    })
    url = `http://127.0.0.1:${server.port}`
    sandbox = await startSandbox({ seed: 'story', webhooks: [{ url: `${url}/api/v1/billing/webhook`, secret: SECRET }] })
    tollgate = createTollgate({
      databaseUrl: database.url,
      catalog: STORY_CATALOG,
      stripe: { ...stripeAt(sandbox.url), webhookSecrets: [SECRET] },
      operatorKey: OPERATOR_KEY,
      publicUrl: url,
      processMetrics: false,
      log: createLog({ level: 'error', secrets: [OPERATOR_KEY] }),
    })
    await tollgate.start()
  })
  afterAll(async () => {
    await server.stop()
    await tollgate?.stop()
    await sandbox.stop()
  })

  return {
    async newCustomer() {
      const operator = createCaller(url, OPERATOR_KEY)
      const made = await operator.post('/api/v1/organizations', { name: 'Story', email: 'story@example.com', test_clock: true })
      const id = String(made.body['id'])
      const key = await operator.post(`/api/v1/organizations/${id}/api-keys`, { name: 'app', scopes: ['read', 'write', 'admin'] })
      return { id, operator, own: createCaller(url, String(key.body['key'])), stripe: stripeOf(sandbox.url) }
    },
  }
}

function stripeOf(url: string): Stripe {
  const headers = { authorization: `Bearer ${stripeAt(url).secretKey}` }
  return {
    async list(path) {
      const response = await fetch(`${url}${path}${path.includes('?') ? '&' : '?'}limit=100`, { headers })
      const { data, has_more: more } = (await response.json()) as { data: StripeObject[]; has_more: boolean }
      if (more) throw new Error(`${path} has more than a page.`)
      return data
    },
    async post(path, form) {
      const response = await fetch(url + path, { method: 'POST', headers, body: new URLSearchParams(form) })
      return { status: response.status, body: (await response.json()) as StripeObject }
    },
  }
}
