/**
 * Measures the sandbox: `node sandbox/bench/run.ts [requests|memory|renewals]`. Prints one line a figure. Rates are given per second of the
 * sandbox's own processor time as well, so that a busy machine does not blur them.
 */
import { Agent, request } from 'node:http'
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { performance } from 'node:perf_hooks'
import { startSandbox, type Sandbox } from '../src/index.ts'

const START = Date.UTC(2026, 0, 15, 12) / 1000
const MONTH_LATER = Date.UTC(2026, 1, 15, 14) / 1000

interface Caller {
  post(path: string, body: string): Promise<{ id: string; status: string; default_price: string }>
  get(path: string): Promise<unknown>
  close(): void
}

function callerFor(port: number, connections: number): Caller {
  const agent = new Agent({ keepAlive: true, maxSockets: connections })
  const call = (method: string, path: string, body: string) =>
    new Promise<never>((done, fail) => {
      const headers = { authorization: 'Bearer sk_test_bench', 'content-type': 'application/x-www-form-urlencoded' }
      const sent = request({ host: '127.0.0.1', port, method, path, agent, headers }, (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => (text += chunk))
        response.on('end', () => {
          const answer = JSON.parse(text) as { error?: { message: string } }
          if (answer.error === undefined) done(answer as never)
          else fail(new Error(answer.error.message))
        })
      })
      sent.on('error', fail)
      sent.end(body)
    })
  return {
    post: (path, body) => call('POST', path, body),
    get: (path) => call('GET', path, ''),
    close: () => agent.destroy(),
  }
}

async function many(count: number, workers: number, work: (index: number) => Promise<unknown>): Promise<void> {
  let next = 0
  await Promise.all(
    Array.from({ length: workers }, async () => {
      while (next < count) await work(next++)
    }),
  )
}

function report(name: string, value: string): void {
  console.log(`${name.padEnd(52)} ${value}`)
}

/** Time and processor time of some work in this process. */
async function timed(work: () => unknown): Promise<{ seconds: number; cpuSeconds: number }> {
  const [start, cpu] = [performance.now(), process.cpuUsage()]
  await work()
  const used = process.cpuUsage(cpu)
  return { seconds: (performance.now() - start) / 1000, cpuSeconds: (used.user + used.system) / 1e6 }
}

async function measureStart(): Promise<void> {
  const first = await startSandbox()
  await first.stop()
  const times: number[] = []
  for (let run = 0; run < 10; run++) {
    const start = performance.now()
    const sandbox = await startSandbox()
    times.push(performance.now() - start)
    await sandbox.stop()
  }
  report('start in process (median of 10)', `${times.sort((a, b) => a - b)[5]?.toFixed(1)} ms`)
}

/** Requests come from another process, so that the sandbox's processor time is its own. */
async function measureRequests(): Promise<void> {
  const sandbox = await startSandbox({ onError: () => {} })
  for (const kind of ['create', 'get', 'list']) {
    const count = 20_000
    await loadFrom(sandbox.port, kind, 2000)
    const { seconds, cpuSeconds } = await timed(() => loadFrom(sandbox.port, kind, count))
    report(
      `${kind} customer, 16 connections`,
      `${Math.round(count / seconds)}/s, ${Math.round(count / cpuSeconds)} per processor second`,
    )
  }
  await sandbox.stop()
}

function loadFrom(port: number, kind: string, count: number): Promise<void> {
  return new Promise((done, fail) => {
    const child = fork(fileURLToPath(import.meta.url), ['load', String(port), kind, String(count)])
    child.once('exit', (code) => (code === 0 ? done() : fail(new Error(`load generator: ${code}`))))
  })
}

async function load(port: number, kind: string, count: number): Promise<void> {
  const caller = callerFor(port, 16)
  const { id } = await caller.post('/v1/customers', 'name=Ada')
  const work = {
    create: () => caller.post('/v1/customers', 'name=Ada&email=ada%40example.com&metadata[tenant]=acme'),
    get: () => caller.get(`/v1/customers/${id}`),
    list: () => caller.get('/v1/customers?limit=10'),
  }[kind]
  if (work !== undefined) await many(count, 16, work)
  caller.close()
}

async function subscribe(sandbox: Sandbox, count: number): Promise<void> {
  const caller = callerFor(sandbox.port, 8)
  const product = await caller.post(
    '/v1/products',
    'name=Gold&default_price_data[currency]=usd&default_price_data[unit_amount]=2900&default_price_data[recurring][interval]=month',
  )
  await many(count, 8, async (index) => {
    const customer = await caller.post(
      '/v1/customers',
      `name=${index}&payment_method=pm_card_visa&invoice_settings[default_payment_method]=pm_card_visa`,
    )
    const subscription = await caller.post(
      '/v1/subscriptions',
      `customer=${customer.id}&items[0][price]=${product.default_price}`,
    )
    if (subscription.status !== 'active') throw new Error(`The subscription is ${subscription.status}.`)
  })
  caller.close()
}

async function measureMemory(count: number): Promise<void> {
  const sandbox = await startSandbox({ clock: { frozen: START } })
  const { seconds } = await timed(() => subscribe(sandbox, count))
  globalThis.gc?.()
  const { heapUsed, rss } = process.memoryUsage()
  report(`${count} paid subscriptions, made one by one`, `${seconds.toFixed(0)} s`)
  report('memory', `${Math.round(heapUsed / 2 ** 20)} MB heap, ${Math.round(rss / 2 ** 20)} MB resident`)
  await sandbox.stop()
}

async function measureRenewals(count: number): Promise<void> {
  const sandbox = await startSandbox({ clock: { frozen: START } })
  await subscribe(sandbox, count)
  const { seconds } = await timed(() => sandbox.advanceTo(MONTH_LATER))
  const renewed = sandbox
    .all('invoice')
    .filter((invoice) => invoice.billing_reason === 'subscription_cycle' && invoice.status === 'paid')
  if (renewed.length !== count) throw new Error(`${renewed.length} of ${count} renewals were paid.`)
  report(`a month over ${count} subscriptions`, `${seconds.toFixed(1)} s`)
  await sandbox.stop()
}

const [kind = 'all', ...rest] = process.argv.slice(2)
if (kind === 'load') await load(Number(rest[0]), rest[1] ?? '', Number(rest[2]))
if (kind === 'start' || kind === 'all') await measureStart()
if (kind === 'requests' || kind === 'all') await measureRequests()
if (kind === 'memory' || kind === 'all') await measureMemory(Number(rest[0] ?? 100_000))
if (kind === 'renewals' || kind === 'all') await measureRenewals(Number(rest[0] ?? 10_000))
