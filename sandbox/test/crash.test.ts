import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Stripe } from 'stripe'
import { afterEach, expect, test } from 'vitest'
import { startReceiver, startTestSandbox, NOW } from './contract.ts'

const bin = fileURLToPath(new URL('../bin/stripe-sandbox.mjs', import.meta.url))
const cleanups: Array<() => void> = []

afterEach(() => {
  for (const clean of cleanups.splice(0)) clean()
})

function dataFile(): string {
  const folder = mkdtempSync(join(tmpdir(), 'sandbox-'))
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }))
  return join(folder, 'state.db')
}

/** Starts the command in a process of its own; resolves when it listens. */
async function startProcess(...args: string[]): Promise<{ child: ChildProcess; url: URL; output: () => string }> {
  const child = spawn(process.execPath, [bin, '--port', '0', ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  cleanups.push(() => child.kill('SIGKILL'))
  let output = ''
  const url = await new Promise<URL>((done, fail) => {
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString()
      const [, address] = /listening on (\S+)/.exec(output) ?? []
      if (address !== undefined) done(new URL(address))
    })
    child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
    child.once('exit', () => fail(new Error(output)))
  })
  return { child, url, output: () => output }
}

function kill(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  return new Promise((done) => {
    child.once('exit', (code) => done(code))
    child.kill(signal)
  })
}

function clientAt(url: URL): Stripe {
  return new Stripe('sk_test_x', { host: url.hostname, port: url.port, protocol: 'http', telemetry: false, maxNetworkRetries: 0 })
}

test('what was answered before a SIGKILL is there after it, with its events and idempotent answers', async () => {
  const data = dataFile()
  const first = await startProcess('--data', data)
  const stripe = clientAt(first.url)
  const answered: string[] = []
  const work = async (worker: number) => {
    for (let index = 0; ; index++) {
      const customer = await stripe.customers.create({ name: 'x' }, { idempotencyKey: `${worker}-${index}` }).catch(() => null)
      if (customer === null) return
      answered.push(customer.id)
    }
  }
  const workers = [1, 2, 3, 4].map(work)
  await expect.poll(() => answered.length).toBeGreaterThan(100)
  await kill(first.child, 'SIGKILL')
  await Promise.all(workers)

  const second = await startProcess('--data', data)
  const again = clientAt(second.url)
  const customers = await again.customers.list({ limit: 100 }).autoPagingToArray({ limit: 10_000 })
  const events = await again.events.list({ limit: 100 }).autoPagingToArray({ limit: 10_000 })
  const found = new Set(customers.map(({ id }) => id))
  expect(answered.filter((id) => !found.has(id))).toEqual([])
  expect(events.map(({ data: { object } }) => (object as { id: string }).id)).toEqual(customers.map(({ id }) => id))
  const repeated = await again.customers.create({ name: 'x' }, { idempotencyKey: '1-0' })
  expect(found.has(repeated.id)).toBe(true)
  expect((await again.customers.list({ limit: 1 })).data[0]?.id).toBe(customers[0]?.id)
  expect(await kill(second.child, 'SIGTERM')).toBe(0)
})

test('deliveries that were not finished go on after a restart', async () => {
  const data = dataFile()
  const down = await startTestSandbox({
    data,
    webhooks: [{ url: 'http://127.0.0.1:1/', secret: 'whsec_x' }],
    delivery: { retrySeconds: [0, 3600] },
  })
  await down.stripe.customers.create()
  await down.sandbox.settled()
  await down.sandbox.stop()
  const { url, received } = await startReceiver('whsec_x')
  const up = await startTestSandbox({ data, clock: 'real' })
  expect(up.sandbox.now()).toBe(NOW)
  const [endpoint] = up.sandbox.all('webhook_endpoint')
  await up.stripe.webhookEndpoints.update(endpoint?.id ?? '', { url })
  const [delivery] = up.sandbox.all('_delivery')
  await up.fetch(`/_sandbox/deliveries/${delivery?.id}/resend`, { method: 'POST' })
  await up.sandbox.settled()
  expect(received.map(({ event }) => event.type)).toEqual(['customer.created'])
})

test('a kept state keeps its clock, order and unique ids under the same seed', async () => {
  const data = dataFile()
  const first = await startTestSandbox({ data, seed: 'same' })
  const one = await first.stripe.customers.create({ name: 'one' })
  first.sandbox.advanceTo(NOW + 100)
  await first.sandbox.stop()
  const second = await startTestSandbox({ data, seed: 'same' })
  const two = await second.stripe.customers.create({ name: 'two' })
  expect([one.created, two.created]).toEqual([NOW, NOW + 100])
  expect((await second.stripe.customers.list()).data.map(({ name }) => name)).toEqual(['two', 'one'])
})

test('the same seed and the same requests give the same ids', async () => {
  const run = async () => {
    const { stripe } = await startTestSandbox({ seed: 'twin' })
    return [(await stripe.customers.create()).id, (await stripe.products.create({ name: 'x' })).id]
  }
  expect(await run()).toEqual(await run())
})

test('a state travels in a fixture, all of it or nothing', async () => {
  const from = await startTestSandbox()
  await from.stripe.customers.create({ name: 'Ada' })
  const fixture: unknown = JSON.parse(JSON.stringify(from.sandbox.exportFixture()))
  const to = await startTestSandbox({ seed: 2 })
  await to.stripe.customers.create({ name: 'Bob' })
  expect(to.sandbox.importFixture(fixture)).toBeGreaterThan(0)
  expect((await to.stripe.customers.list()).data.map(({ name }) => name)).toEqual(['Ada', 'Bob'])
  expect(() => to.sandbox.importFixture(fixture)).toThrow('already')
  expect(() => to.sandbox.importFixture({ objects: {} })).toThrow('not a fixture')
  expect(to.sandbox.all('customer')).toHaveLength(2)
})

test('a data file belongs to one sandbox, and a port that is taken leaves it free', async () => {
  const data = dataFile()
  const first = await startTestSandbox()
  await expect(startTestSandbox({ data, port: first.sandbox.port })).rejects.toMatchObject({ code: 'EADDRINUSE' })
  await startTestSandbox({ data })
  await expect(startTestSandbox({ data })).rejects.toThrow('in use by another sandbox')
})
