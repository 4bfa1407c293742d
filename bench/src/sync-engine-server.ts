/** `@supabase/stripe-sync-engine`, unchanged, behind an endpoint that hands it every event: in a process of its own, as it is meant to run. */
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import type * as library from '@supabase/stripe-sync-engine'
import { Stripe } from 'stripe'

type Library = typeof library
type Revalidated = NonNullable<ConstructorParameters<Library['StripeSync']>[0]['revalidateObjectsViaStripeApi']>

// The library finds its migrations by `__dirname`, which only its CommonJS build has.
const { StripeSync, runMigrations } = createRequire(import.meta.url)('@supabase/stripe-sync-engine') as Library

/** The objects of the events that are sent. */
const REFETCHED: Revalidated = ['charge', 'customer', 'invoice', 'payment_intent', 'payment_method', 'subscription']

const [databaseUrl = '', secret = '', sandboxUrl = '', mode = ''] = process.argv.slice(2)
await runMigrations({ databaseUrl, schema: 'stripe' })
const sync = new StripeSync({
  poolConfig: { connectionString: databaseUrl, max: 10 },
  stripeSecretKey: 'sk_test_sync_engine',
  stripeWebhookSecret: secret,
  revalidateObjectsViaStripeApi: mode === 'refetch' ? REFETCHED : [],
})
// It has no option for another host, so its public `stripe` is a client of the sandbox.
const { hostname, port } = new URL(sandboxUrl)
sync.stripe = new Stripe('sk_test_sync_engine', { host: hostname, port: Number(port), protocol: 'http', telemetry: false })

const server = createServer((request, response) => {
  text(request)
    .then((body) => sync.processWebhook(body, String(request.headers['stripe-signature'])))
    .then(
      () => response.writeHead(200).end(),
      (error: unknown) => response.writeHead(500).end(String(error)),
    )
})
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`)
})
process.once('SIGTERM', () => {
  server.closeAllConnections()
  server.close(() => void sync.close())
})
