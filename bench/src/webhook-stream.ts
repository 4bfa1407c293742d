import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { startSandbox, type Sandbox } from '../../sandbox/src/index.ts'
import type { Signed } from './webhook-delivery.ts'

/**
 * What Stripe sends of all this, as far as both sides handle it: the engine knows no `invoiceitem`, an upcoming invoice has no id, and payments of
 * invoices are not mirrored here.
 */
const EVENTS = [
  'charge.succeeded',
  'customer.created',
  'customer.subscription.created',
  'customer.subscription.deleted',
  'customer.subscription.updated',
  'customer.updated',
  'invoice.created',
  'invoice.finalized',
  'invoice.paid',
  'invoice.payment_succeeded',
  'invoice.updated',
  'payment_intent.created',
  'payment_intent.succeeded',
  'payment_method.attached',
]

const MONTH_SECONDS = 31 * 86_400
const CUSTOMERS = 600
/** Of a hundred customers in a month: signups and as many cancellations, another card, another number of seats. */
const NEW = 5
const CARDS = 8
const SEATS = 7

type Sold = { readonly id: string; readonly items: { readonly data: readonly { readonly id: string }[] } }
type Subscriber = { readonly customer: string; readonly subscription: Sold }

/** A Stripe account over months, and the webhooks that it sends. */
export type WebhookStream = {
  readonly sandbox: Sandbox
  /** Customers who sign up. */
  begin(): Promise<readonly Signed[]>
  /** A month: everybody renews, some sign up, cancel, take another card or more seats. */
  month(): Promise<readonly Signed[]>
  /** All that there ever were. */
  customers(): readonly string[]
  /** How many had a subscription in the last month. */
  living(): number
  stop(): Promise<void>
}

/**
 * The sandbox's clock stands a year back and is moved by months, so that renewals come as they do: what happens at the boundary first, for
 * everybody, and what happens when the invoice is finalized an hour later after that. Nothing is made up: whatever the sandbox sends is sent on.
 */
export async function openStream(secret: string, newOrganization: (id: string) => Promise<void>): Promise<WebhookStream> {
  const recorder = await startRecorder()
  const frozen = Math.floor(Date.now() / 1000) - 14 * MONTH_SECONDS
  const sandbox = await startSandbox({
    seed: 'bench',
    clock: { frozen },
    webhooks: [{ url: recorder.url, secret, enabledEvents: EVENTS }],
  })
  let made = 0
  let subscribers: Subscriber[] = []
  const customers: string[] = []
  let living = 0

  async function signUp(count: number): Promise<void> {
    const [price] = sandbox.all('price')
    for (let index = 0; index < count; index += 1) {
      const id = `bench_${made}`
      made += 1
      await newOrganization(id)
      const { id: customer } = await callStripe(sandbox, 'customers', {
        email: `${id}@example.com`,
        payment_method: 'pm_card_visa',
        'invoice_settings[default_payment_method]': 'pm_card_visa',
        'metadata[tollgate_organization]': id,
      })
      customers.push(customer)
      subscribers.push({
        customer,
        subscription: await callStripe(sandbox, 'subscriptions', { customer, 'items[0][price]': price!.id }),
      })
    }
  }

  async function take(): Promise<readonly Signed[]> {
    await sandbox.settled()
    return recorder.take()
  }

  return {
    sandbox,
    customers: () => customers,
    living: () => living,
    async begin() {
      await signUp(CUSTOMERS)
      living = subscribers.length
      return take()
    },
    async month() {
      const part = (share: number) => Math.round((CUSTOMERS * share) / 100)
      sandbox.advanceTo(sandbox.now() + MONTH_SECONDS)
      const [leaving, staying] = [subscribers.slice(0, part(NEW)), subscribers.slice(part(NEW))]
      for (const { subscription } of leaving) await callStripe(sandbox, `subscriptions/${subscription.id}`, {}, 'DELETE')
      subscribers = staying
      for (const { customer } of staying.slice(0, part(CARDS))) await takeAnotherCard(sandbox, customer)
      for (const { subscription } of staying.slice(part(CARDS), part(CARDS + SEATS))) await takeASeat(sandbox, subscription)
      await signUp(leaving.length)
      living = subscribers.length + leaving.length
      return take()
    },
    async stop() {
      await sandbox.stop()
      recorder.stop()
    },
  }
}

async function takeAnotherCard(sandbox: Sandbox, customer: string): Promise<void> {
  const { id } = await callStripe(sandbox, 'payment_methods/pm_card_mastercard/attach', { customer })
  await callStripe(sandbox, `customers/${customer}`, { 'invoice_settings[default_payment_method]': id })
}

async function takeASeat(sandbox: Sandbox, { id, items }: Sold): Promise<void> {
  const [held] = sandbox.all('subscription').find((one) => one.id === id)!._.items
  await callStripe(sandbox, `subscriptions/${id}`, {
    'items[0][id]': items.data[0]!.id,
    'items[0][quantity]': String((held?.quantity ?? 1) + 1),
    proration_behavior: 'always_invoice',
  })
}

async function callStripe(
  sandbox: Sandbox,
  path: string,
  params: Readonly<Record<string, string>>,
  method: 'POST' | 'DELETE' = 'POST',
): Promise<Sold> {
  const response = await fetch(`${sandbox.url}/v1/${path}`, {
    method,
    headers: { authorization: 'Bearer sk_test_bench' },
    body: new URLSearchParams(params),
  })
  if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`)
  return (await response.json()) as Sold
}

/** Takes what the sandbox sends, to be sent on from here. */
async function startRecorder() {
  let recorded: Signed[] = []
  const server = createServer((incoming, response) => {
    const signature = String(incoming.headers['stripe-signature'])
    void text(incoming).then((body) => {
      recorded.push({ id: (JSON.parse(body) as { id: string }).id, body, signature })
      response.writeHead(200).end()
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    take(): readonly Signed[] {
      const taken = recorded
      recorded = []
      return taken
    },
    stop() {
      server.closeAllConnections()
      server.close()
    },
  }
}
