import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Stripe } from 'stripe'
import { afterEach, expect } from 'vitest'
import { startSandbox, type Sandbox, type SandboxOptions } from '../src/index.ts'
import { Contract } from './schemas.ts'

const contract = new Contract()

/** A webhook as it arrived, signature verified. */
export interface Received {
  readonly event: Stripe.Event
  readonly signature: string
  readonly body: string
}

export interface TestSandbox {
  readonly sandbox: Sandbox
  /** The official client, pointed at the sandbox; every answer it gets is checked against the contract. */
  readonly stripe: Stripe
  /** Sends a raw request: for what the official client cannot say. Checked against the contract as well. */
  readonly fetch: (path: string, init?: RequestInit) => Promise<Response>
  /** All events so far, oldest first, each snapshot checked against the contract. */
  readonly events: () => Stripe.Event[]
  /** `type` of all events so far, oldest first; those after `since` events when given. */
  readonly eventTypes: (since?: number) => string[]
  /** Stops the sandbox and says what was wrong, before the test's end does. */
  readonly check: () => Promise<void>
}

const running: Array<() => Promise<void>> = []

afterEach(async () => {
  await Promise.all(running.splice(0).map((stop) => stop()))
})

/**
 * Starts a sandbox for one test and stops it after the test. Frozen at 2026-01-15T12:00:00Z and seeded unless told otherwise. A failure
 * inside the sandbox, an answer or an event that does not keep the contract fails the test.
 */
export async function startTestSandbox(options: SandboxOptions = {}): Promise<TestSandbox> {
  const failures: unknown[] = []
  const sandbox = await startSandbox({ clock: { frozen: NOW }, seed: 1, onError: (error) => failures.push(error), ...options })
  const faults: string[] = []
  const checkingFetch = checked(faults)
  const stripe = clientFor(sandbox, checkingFetch)
  const checkEvents = () => {
    for (const event of sandbox.all('event')) {
      const object = event.data.object
      const found = isOutsideContract(object) ? [] : contract.faultsOfObject(object)
      faults.push(...found.map((fault) => `${event.type}: ${fault}`))
    }
  }
  const check = async () => {
    checkEvents()
    await sandbox.stop()
    expect(failures, 'failures inside the sandbox').toEqual([])
    expect(faults.slice(0, 10), 'answers and events that break the contract').toEqual([])
  }
  running.push(check)
  return {
    sandbox,
    stripe,
    check,
    fetch: (path, init) => checkingFetch(sandbox.url + path, init),
    events: () => sandbox.all('event') as unknown as Stripe.Event[],
    eventTypes: (since = 0) =>
      sandbox
        .all('event')
        .slice(since)
        .map((event) => event.type),
  }
}

/** 2026-01-15T12:00:00Z: where a test's clock stands unless told otherwise. */
export const NOW = Date.UTC(2026, 0, 15, 12) / 1000

/** An official client for a sandbox, without retries. */
export function clientFor(sandbox: Sandbox, fetchFunction: typeof fetch = fetch, key = 'sk_test_sandbox'): Stripe {
  return new Stripe(key, {
    host: sandbox.host,
    port: sandbox.port,
    protocol: 'http',
    telemetry: false,
    maxNetworkRetries: 0,
    httpClient: Stripe.createFetchHttpClient(fetchFunction),
  })
}

/** Deleted objects carry only their id; an alert's notice has no schema in the contract. */
function isOutsideContract(object: Record<string, unknown>): boolean {
  return object['deleted'] === true || object['object'] === 'billing.alert_triggered'
}

/** A `fetch` that checks each answer against the contract and notes what is wrong. */
function checked(faults: string[]): typeof fetch {
  return async (input, init) => {
    const response = await fetch(input, init)
    const url = new URL(input instanceof Request ? input.url : input)
    if (!/^\/v[12]\//.test(url.pathname)) return response
    const text = await response.clone().text()
    const body: unknown = JSON.parse(text)
    const method = (init?.method ?? 'GET').toUpperCase()
    const found = response.ok ? contract.faultsOfAnswer(operationOf(method, url.pathname), body) : contract.faultsOfError(body)
    faults.push(...found.map((fault) => `${method} ${url.pathname}: ${fault}`))
    return response
  }
}

/** The contract's operation for a path: literal segments win over parameters. */
function operationOf(method: string, pathname: string): string {
  const candidates = contract.operationKeys(method).filter((template) => {
    const pattern = template.replace(/\{\w+\}/g, '[^/]+')
    return new RegExp(`^${pattern}$`).test(pathname)
  })
  const best = candidates.sort((left, right) => left.split('{').length - right.split('{').length)[0]
  return `${method} ${best ?? pathname}`
}

/** A receiver of webhooks. `answer` decides the HTTP status of each (200 unless told). */
export async function startReceiver(
  secret: string,
  answer: (event: Stripe.Event, attempt: number) => number = () => 200,
  options: { thin: boolean } = { thin: false },
): Promise<{
  readonly url: string
  readonly received: Received[]
}> {
  const received: Received[] = []
  const attempts = new Map<string, number>()
  const failures: unknown[] = []
  const verifier = new Stripe('sk_test_receiver')
  const server: Server = createServer((request, response) => {
    const accept = (body: string): number => {
      const signature = String(request.headers['stripe-signature'])
      // A thin notification is not an event of the first API: the test verifies it itself.
      const event = options.thin ? (JSON.parse(body) as Stripe.Event) : verifier.webhooks.constructEvent(body, signature, secret)
      const attempt = (attempts.get(event.id) ?? 0) + 1
      attempts.set(event.id, attempt)
      received.push({ event, signature, body })
      return answer(event, attempt)
    }
    textOf(request).then(
      (body) => {
        try {
          response.writeHead(accept(body)).end()
        } catch (error) {
          failures.push(error)
          response.writeHead(500).end()
        }
      },
      (error: unknown) => failures.push(error),
    )
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  running.push(async () => {
    server.closeAllConnections()
    await new Promise((done) => server.close(done))
    expect(failures, 'deliveries that could not be verified').toEqual([])
  })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hooks`, received }
}

async function textOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString()
}
