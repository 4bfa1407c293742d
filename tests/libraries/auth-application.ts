import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { stripe as stripePlugin, type StripePlan } from '@better-auth/stripe'
import { betterAuth } from 'better-auth'
import { memoryAdapter } from 'better-auth/adapters/memory'
import { toNodeHandler } from 'better-auth/node'
import { Stripe } from 'stripe'
import { afterEach, expect } from 'vitest'
import { startTestSandbox, type TestSandbox } from '../../sandbox/test/contract.ts'

/** The product catalog that the tests sell from. */
export interface Catalog {
  readonly basic: string
  readonly pro: string
  readonly proYearly: string
  /** Sold with a trial of 14 days. */
  readonly team: string
}

/** A row of the plugin's table. */
export interface SubscriptionRow {
  readonly plan: string
  readonly status: string
  readonly stripeSubscriptionId?: string
  readonly seats?: number | null
  readonly billingInterval?: string | null
  readonly periodStart?: Date
  readonly periodEnd?: Date
  readonly trialEnd?: Date | null
  readonly cancelAt?: Date | null
  readonly cancelAtPeriodEnd?: boolean
  readonly canceledAt?: Date | null
  readonly endedAt?: Date | null
  readonly stripeScheduleId?: string | null
}

/** An application with better-auth, and the sandbox that it sells through. */
export interface AuthApplication {
  readonly url: string
  readonly test: TestSandbox
  /** The library's own major of the official client. */
  readonly stripe: Stripe
  readonly catalog: Catalog
  /** What the plugin was told by webhooks, oldest first: `complete`, `update`, `cancel`, `deleted`, `created`, `trialStart`, `trialEnd`. */
  readonly told: string[]
  /** Copies of the rows of a table of the application. */
  rows(table: 'user'): ReadonlyArray<{ readonly email: string; readonly stripeCustomerId?: string | null }>
  rows(table: 'subscription'): readonly SubscriptionRow[]
  /** Waits until every webhook has been delivered and answered. */
  settled(): Promise<void>
}

/** What the plugin's documentation says to subscribe to. */
const EVENTS: Stripe.WebhookEndpointCreateParams.EnabledEvent[] = [
  'checkout.session.completed',
  'customer.subscription.created',
  'customer.subscription.updated',
  'customer.subscription.deleted',
]

const running: Array<() => Promise<void>> = []

afterEach(async () => {
  await Promise.all(running.splice(0).map((stop) => stop()))
})

/**
 * Starts an application on a free port whose users sign up with e-mail and password, with better-auth's Stripe plugin as its documentation
 * sets it up, and a sandbox whose webhooks go to the plugin's endpoint. Both stop after the test; a failure that the library logs fails it.
 */
export async function startAuthApplication(): Promise<AuthApplication> {
  // The library compares period ends with the real time, so the sandbox's clock stands shortly after it.
  const test = await startTestSandbox({ clock: { frozen: Math.floor(Date.now() / 1000) + 3600 } })
  const stripe = clientOf(test)
  const catalog = await createCatalog(stripe)
  const tables = { user: [], session: [], account: [], verification: [], subscription: [] }
  const told: string[] = []
  const logged: string[] = []
  const server = createServer()
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const endpoint = await stripe.webhookEndpoints.create({ url: `${url}/api/auth/stripe/webhook`, enabled_events: EVENTS })
  const auth = betterAuth({
    baseURL: url,
    secret: 'a secret that only this test knows',
    database: memoryAdapter(tables),
    emailAndPassword: { enabled: true },
    telemetry: { enabled: false },
    rateLimit: { enabled: false },
    logger: { level: 'warn', log: (level, message) => void logged.push(`${level}: ${message}`) },
    plugins: [
      stripePlugin({
        stripeClient: stripe,
        stripeWebhookSecret: endpoint.secret ?? '',
        createCustomerOnSignUp: true,
        subscription: { enabled: true, plans: plansOf(catalog, told), ...hooksOf(told) },
      }),
    ],
  })
  const handle = toNodeHandler(auth)
  server.on('request', (request, response) => void handle(request, response))
  running.push(async () => {
    server.closeAllConnections()
    await new Promise((done) => server.close(done))
    expect(logged, 'warnings and errors of the library').toEqual([])
  })
  return {
    url,
    test,
    stripe,
    catalog,
    told,
    rows: (table: 'user' | 'subscription') => structuredClone(tables[table]),
    settled: () => test.sandbox.settled(),
  }
}

/** The client that an application would make, except that each answer is checked against the contract on the way. */
function clientOf({ sandbox, fetch }: TestSandbox): Stripe {
  return new Stripe('sk_test_better_auth', {
    host: sandbox.host,
    port: sandbox.port,
    protocol: 'http',
    telemetry: false,
    httpClient: Stripe.createFetchHttpClient((input, init) => {
      const { pathname, search } = new URL(input instanceof Request ? input.url : input)
      return fetch(pathname + search, init)
    }),
  })
}

async function createCatalog(stripe: Stripe): Promise<Catalog> {
  const price = (name: string, unit_amount: number, interval: 'month' | 'year', lookup_key?: string) =>
    stripe.prices.create({
      currency: 'usd',
      product_data: { name },
      recurring: { interval },
      unit_amount,
      ...(lookup_key === undefined ? {} : { lookup_key }),
    })
  const [basic, pro, proYearly, team] = await Promise.all([
    price('Basic', 900, 'month'),
    price('Pro', 2900, 'month', 'pro_monthly'),
    price('Pro, yearly', 29_000, 'year'),
    price('Team', 4900, 'month'),
  ])
  return { basic: basic.id, pro: pro.id, proYearly: proYearly.id, team: team.id }
}

function plansOf(catalog: Catalog, told: string[]): StripePlan[] {
  return [
    { name: 'basic', priceId: catalog.basic, limits: { projects: 5 } },
    { name: 'pro', lookupKey: 'pro_monthly', annualDiscountPriceId: catalog.proYearly, limits: { projects: 20 } },
    {
      name: 'team',
      priceId: catalog.team,
      freeTrial: {
        days: 14,
        onTrialStart: async () => void told.push('trialStart'),
        onTrialEnd: async () => void told.push('trialEnd'),
      },
    },
  ]
}

function hooksOf(told: string[]) {
  return {
    onSubscriptionComplete: async () => void told.push('complete'),
    onSubscriptionCreated: async () => void told.push('created'),
    onSubscriptionUpdate: async () => void told.push('update'),
    onSubscriptionCancel: async () => void told.push('cancel'),
    onSubscriptionDeleted: async () => void told.push('deleted'),
  }
}
