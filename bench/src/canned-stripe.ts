/**
 * Stripe's answers of one moment, ready as bytes: what a server here costs beside a Stripe that is somewhere else. `POST /load` with
 * customers' ids reads what the sandbox says of them; then their lists and objects are answered from memory, anything else by the sandbox.
 * `GET /refetches` says how many refetches there were since.
 */
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'

const [sandboxUrl = ''] = process.argv.slice(2)

/** The lists of a customer, by their path, with what we ask to be expanded in them; whoever asks for an object asks for it as it is. */
const LISTS = {
  '/v1/subscriptions':
    'status=all&expand[0]=data.discounts.source.coupon&expand[1]=data.schedule&expand[2]=data.latest_invoice.payments',
  '/v1/invoices': '',
  '/v1/charges': '',
  '/v1/payment_intents': '',
  '/v1/payment_methods': '',
} as const

type Item = { readonly id: string }
type Listed = { readonly data: readonly Item[] }

/** How often a customer's subscriptions were listed since the last load: once in each refetch of ours. */
let refetches = 0
let lists = new Map<string, readonly string[]>()
let objects = new Map<string, string>()

async function ask(path: string): Promise<unknown> {
  const response = await fetch(`${sandboxUrl}${path}`, { headers: { authorization: 'Bearer sk_test_bench' } })
  return response.json()
}

async function load(customers: readonly string[]): Promise<void> {
  refetches = 0
  lists = new Map()
  objects = new Map()
  for (const customer of customers) {
    objects.set(`/v1/customers/${customer}`, JSON.stringify(await ask(`/v1/customers/${customer}`)))
    for (const [path, query] of Object.entries(LISTS)) {
      const { data } = (await ask(`${path}?customer=${customer}&limit=100&${query}`)) as Listed
      lists.set(
        `${path} ${customer}`,
        data.map((item) => JSON.stringify(item)),
      )
      const plain = query === '' ? data : ((await ask(`${path}?customer=${customer}&limit=100&status=all`)) as Listed).data
      for (const item of plain) objects.set(`${path}/${item.id}`, JSON.stringify(item))
    }
  }
}

/** null where the sandbox has to be asked. */
function answerOf(url: string): string | null {
  const { pathname, searchParams } = new URL(url, sandboxUrl)
  const known = objects.get(pathname)
  if (known !== undefined) return known
  // The payment methods of a customer have a path of their own.
  const own = /^\/v1\/customers\/(\w+)(\/payment_methods)$/.exec(pathname)
  const items = own ? lists.get(`/v1${own[2]} ${own[1]}`) : lists.get(`${pathname} ${searchParams.get('customer')}`)
  if (items === undefined) return null
  const limit = Number(searchParams.get('limit') ?? 10)
  return `{"object":"list","url":"${pathname}","has_more":${items.length > limit},"data":[${items.slice(0, limit).join(',')}]}`
}

async function pass(request: IncomingMessage): Promise<{ status: number; body: string }> {
  const { method = 'GET', url = '/', headers } = request
  const sent = { authorization: String(headers.authorization), 'content-type': headers['content-type'] ?? '' }
  const body = method === 'GET' ? null : await text(request)
  const answer = await fetch(`${sandboxUrl}${url}`, { method, headers: sent, body })
  return { status: answer.status, body: await answer.text() }
}

const server = createServer((request, response) => {
  const send = (status: number, body: string) =>
    response
      .writeHead(status, [
        'content-type',
        'application/json',
        'request-id',
        'req_canned',
        'content-length',
        String(Buffer.byteLength(body)),
      ])
      .end(body)
  if (request.url === '/load') {
    void text(request)
      .then((body) => load(JSON.parse(body) as string[]))
      .then(() => send(200, '{}'))
    return
  }
  if (request.url === '/refetches') return void send(200, JSON.stringify({ refetches }))
  if (request.url?.startsWith('/v1/subscriptions?') === true) refetches += 1
  const canned = request.method === 'GET' ? answerOf(request.url ?? '') : null
  if (canned !== null) return void send(200, canned)
  void pass(request).then(({ status, body }) => send(status, body))
})
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as AddressInfo).port })}\n`)
})
process.once('SIGTERM', () => {
  server.closeAllConnections()
  server.close()
})
