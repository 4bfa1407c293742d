import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { once } from 'node:events'
import type { ChildProcess } from 'node:child_process'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { PATIENCE } from '../test/patience.ts'
import { startProgram, variablesFor } from '../test/program.ts'
import { DAY_MS } from './lib/period.ts'
import { readRuntime } from './runtime-file.ts'

// A customer's way back, as they go it: by the mails that they get and the links in them, over HTTP alone.

vi.setConfig({ testTimeout: 90_000, hookTimeout: 60_000 })
const directory = mkdtempSync(join(tmpdir(), 'tollgate-recovery-'))
let child: ChildProcess
let runtime: NonNullable<ReturnType<typeof readRuntime>>
let key: string

beforeAll(async () => {
  ;({ child } = await startProgram(variablesFor(directory)))
  runtime = readRuntime(directory)!
  await call('POST', '/api/v1/organizations', { id: 'acme', name: 'Acme', email: 'billing@example.com', test_clock: true })
  const made = { name: 'application', scopes: ['read', 'write', 'admin'] }
  key = String((await call('POST', '/api/v1/organizations/acme/api-keys', made))['key'])
  await call('POST', '/api/v1/billing/subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' }, key)
})
afterAll(async () => {
  const ended = once(child, 'exit')
  child.kill('SIGINT')
  await ended
  rmSync(directory, { recursive: true, force: true })
})

async function call(method: string, path: string, body?: object, as = runtime.operatorKey): Promise<Record<string, unknown>> {
  const response = await fetch(runtime.url + path, {
    method,
    headers: { authorization: `Bearer ${as}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const text = await response.text()
  expect(response.status, `${method} ${path}: ${text}`).toBeLessThan(300)
  return JSON.parse(text) as Record<string, unknown>
}

const advance = (by: string) => call('POST', '/api/v1/organizations/acme/clock/advance', { by })
const standing = async () => (await call('GET', '/api/v1/billing/subscription', undefined, key))['standing']

/** The text of the newest mail with such a subject, once it is there. */
async function mail(subject: string): Promise<string> {
  const found = await vi.waitFor(
    async () => {
      const { mails } = (await call('GET', '/api/v1/mails?organization_id=acme')) as { mails: { id: string; subject: string }[] }
      const one = mails.find((each) => each.subject === subject)
      if (one === undefined) throw new Error(`There are: ${mails.map((each) => each.subject).join(', ')}`)
      return one
    },
    { ...PATIENCE, interval: 200 },
  )
  return String((await call('GET', `/api/v1/mails/${found.id}`))['text'])
}

test('a card that is about to expire is told of in time, and replaced without a gap', async () => {
  const now = Date.parse(String((await advance('1m'))['now']))
  const [year, month] = [new Date(now + 45 * DAY_MS).getUTCFullYear(), new Date(now + 45 * DAY_MS).getUTCMonth()]
  const daysLeft = (Date.UTC(year, month + 1, 1) - now) / DAY_MS
  const card = new URLSearchParams({
    type: 'card',
    'card[number]': '4242424242424242',
    'card[exp_month]': String(month + 1),
    'card[exp_year]': String(year),
    'card[cvc]': '123',
  })
  const made = await fetch(`${runtime.sandboxUrl}/v1/payment_methods`, {
    method: 'POST',
    headers: { authorization: 'Bearer sk_test_tollgate' },
    body: card,
  })
  const { id } = (await made.json()) as { id: string }
  await call('POST', '/api/v1/billing/payment-methods', { payment_method_id: id }, key)
  await advance(`${Math.floor(daysLeft) - 20}d`)
  const text = await mail('Your visa ending in 4242 expires soon')
  expect(text).toMatch(/expires at the end of .*\n\nAdd another one before, and nothing is interrupted\./)
  const link = new URL(/Change the card:\n(\S+)/.exec(text)![1]!)
  const page = await fetch(`${runtime.url}${link.pathname}`)
  expect(page.status).toBe(200)
  await call('POST', '/api/v1/billing/payment-methods', { payment_method_id: 'pm_card_mastercard' }, key)
  await advance('30d')
  expect(await standing()).toMatchObject({ state: 'active' })
})

test('EM-7 the link in the mail about a failed payment leads to a page where it is paid, and use goes on at once', async () => {
  await call('POST', '/api/v1/billing/payment-methods', { payment_method_id: 'pm_card_chargeCustomerFail' }, key)
  const { current_period_end: end } = await call('GET', '/api/v1/billing/subscription', undefined, key)
  const now = Date.parse(String((await advance('1m'))['now']))
  await advance(`${Math.ceil((Date.parse(String(end)) - now) / DAY_MS) + 1}d`)
  await advance('4d')
  expect(await standing()).toMatchObject({ state: 'suspended', may_use: false })
  const text = await mail('Use has stopped: a payment is open')
  const [, amount, link] = /Pay (\$[\d.]+):\n(\S+)/.exec(text)!
  expect(amount).toBe('$29.00')
  expect((await fetch(link!)).status).toBe(200)
  const form = new URLSearchParams({ email: 'billing@example.com', card_number: '4242424242424242', exp: '12/34', cvc: '123' })
  expect((await fetch(link!, { method: 'POST', body: form, redirect: 'manual' })).status).toBe(303)
  await vi.waitFor(async () => expect(await standing()).toMatchObject({ state: 'active', may_use: true }), PATIENCE)
  expect(await mail('Thank you, everything is paid')).toContain('Use goes on.')
  const used = { meter: 'episode_search', quantity: 1, idempotency_key: 'after' }
  expect(await call('POST', '/api/v1/usage/consume', used, key)).toMatchObject({ allowed: true })
})
