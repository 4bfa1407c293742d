import { afterAll, beforeAll } from 'vitest'
import { defineBilling } from '../src/catalog/define.ts'
import { createLog } from '../src/http/log.ts'
import { createTollgate, type Tollgate, type TollgateOptions } from '../src/tollgate.ts'
import { testDatabase, type TestDatabase } from './database.ts'

export const OPERATOR_KEY = 'the operator key of this test'
export const PUBLIC_URL = 'http://localhost:3000'

const catalog = defineBilling({
  meters: { search: {} },
  plans: { free: { name: 'Free', allowances: { search: { amount: 3 } } } },
  defaultPlan: 'free',
})

export type Answer = { readonly status: number; readonly headers: Headers; readonly body: Record<string, unknown> }

/** A browser: it keeps its cookies, says where its page is from, and comes from an address of its own. */
export type Browser = {
  readonly cookies: Map<string, string>
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>
}

export type TestIdentity = {
  readonly database: TestDatabase
  readonly tollgate: Tollgate
  /** All that was logged. */
  readonly logged: readonly string[]
  open(origin?: string): Browser
  /** A call without cookies, by a key or token. */
  as(key: string | null, method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>
  /** The text of the newest mail of a kind to an address. */
  mailTo(address: string, kind: string): Promise<string>
  /** Where the button leads of the page to which the newest mail that confirms an address leads. */
  confirmationOf(address: string): Promise<URL>
  /** A new user who is signed in, in an organization of their own. */
  signUp(
    email: string,
    more?: Record<string, unknown>,
  ): Promise<{ browser: Browser; token: string; userId: string; organizationId: string }>
}

export const PASSWORD = 'correct horse battery staple'

/** The whole server in this process, for the calling test file. Call it once at the top. */
export function testIdentity(given: Partial<TollgateOptions> | (() => Partial<TollgateOptions>) = {}): TestIdentity {
  const database = testDatabase()
  const logged: string[] = []
  let tollgate: Tollgate | null = null
  let addresses = 0
  let options: Partial<TollgateOptions> = {}

  beforeAll(async () => {
    // A function where it needs what other hooks have started.
    options = typeof given === 'function' ? given() : given
    tollgate = createTollgate({
      databaseUrl: database.url,
      catalog,
      stripe: null,
      operatorKey: OPERATOR_KEY,
      publicUrl: PUBLIC_URL,
      processMetrics: false,
      log: createLog({ level: 'trace', secrets: [OPERATOR_KEY], destination: { write: (line) => void logged.push(line) } }),
      ...options,
    })
    await tollgate.start()
  })
  afterAll(() => tollgate?.stop())

  async function send(method: string, path: string, body: unknown, headers: Record<string, string>, address: string) {
    const request = new Request(`${options.publicUrl ?? PUBLIC_URL}${path}`, {
      method,
      headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      body: body === undefined ? null : JSON.stringify(body),
    })
    const response = await tollgate!.fetch(request, { incoming: { socket: { remoteAddress: address } } })
    const text = await response.text()
    const isJson = response.headers.get('content-type')?.includes('json') === true
    return {
      status: response.status,
      headers: response.headers,
      body: isJson && text !== '' ? (JSON.parse(text) as Record<string, unknown>) : { text },
    }
  }

  /** Limits of sign-ins are by address: each browser has its own. */
  function newAddress(): string {
    addresses += 1
    return `10.0.${Math.floor(addresses / 250)}.${(addresses % 250) + 1}`
  }

  function open(origin = options.publicUrl ?? PUBLIC_URL): Browser {
    const address = newAddress()
    const cookies = new Map<string, string>()
    return {
      cookies,
      async call(method, path, body, headers = {}) {
        const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ')
        const sent = { origin, ...(cookie === '' ? {} : { cookie }), ...headers }
        const answer = await send(method, path, body, sent, address)
        for (const line of answer.headers.getSetCookie()) {
          const [pair = '', ...attributes] = line.split('; ')
          const equals = pair.indexOf('=')
          if (attributes.some((attribute) => /^max-age=0$/i.test(attribute))) cookies.delete(pair.slice(0, equals))
          else cookies.set(pair.slice(0, equals), pair.slice(equals + 1))
        }
        return answer
      },
    }
  }

  async function mailTo(address: string, kind: string): Promise<string> {
    const { rows } = await database.db.query<{ body: string }>(
      'select text_body as body from mails where recipient = $1 and kind = $2 order by created_at desc, id limit 1',
      [address, kind],
    )
    if (rows[0] === undefined) throw new Error(`There is no mail of kind ${kind} to ${address}.`)
    return rows[0].body
  }

  return {
    database,
    logged,
    get tollgate() {
      return tollgate!
    },
    open,
    as: (key, method, path, body, headers = {}) =>
      send(method, path, body, { ...(key === null ? {} : { authorization: `Bearer ${key}` }), ...headers }, newAddress()),
    mailTo,
    async confirmationOf(address) {
      const { origin, hash } = new URL(/http\S+/.exec(await mailTo(address, 'email_verification'))![0])
      return new URL(`/api/v1/auth/verify-email?${hash.slice(1)}`, origin)
    },
    async signUp(email, more = {}) {
      const browser = open()
      const answer = await browser.call('POST', '/api/v1/auth/sign-up', { email, password: PASSWORD, name: 'Somebody', ...more })
      if (answer.status !== 201) throw new Error(`Sign-up answered ${answer.status}: ${JSON.stringify(answer.body)}`)
      const { access_token: token, caller } = answer.body as {
        access_token: string
        caller: { user: { id: string }; organization_id: string }
      }
      return { browser, token, userId: caller.user.id, organizationId: caller.organization_id }
    },
  }
}
