import { expect, test } from 'vitest'
import { NOW, startTestSandbox } from '../../test/contract.ts'

async function withControls() {
  const started = await startTestSandbox()
  const ask = async (path: string, body?: object, headers: Record<string, string> = {}) => {
    const init = body === undefined ? { headers } : { method: 'POST', body: JSON.stringify(body), headers }
    const response = await started.fetch(`/_sandbox/${path}`, init)
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }
  return { ...started, ask }
}

test('the clock moves forward, stands still, and runs faster', async () => {
  const { ask, sandbox } = await withControls()
  expect((await ask('clock')).body).toEqual({ now: NOW, rate: 0 })
  expect((await ask('clock', { advance_by: 60 })).body).toEqual({ now: NOW + 60, rate: 0 })
  expect((await ask('clock', { advance_to: NOW + 100 })).body).toMatchObject({ now: NOW + 100 })
  expect((await ask('clock', { advance_to: NOW })).status).toBe(400)
  expect((await ask('clock', { advance_by: 'x' })).status).toBe(400)
  await ask('clock', { rate: 1_000_000 })
  await expect.poll(() => sandbox.now()).toBeGreaterThan(NOW + 1000)
  expect((await ask('clock', { freeze_at: NOW + 5_000_000 })).body).toEqual({ now: NOW + 5_000_000, rate: 0 })
  expect((await ask('clock', { real: true })).body).toMatchObject({ rate: 1 })
})

test('trigger makes the objects that lead to an event, and knows what it can', async () => {
  const { ask } = await withControls()
  const made = await ask('trigger', { event: 'customer.subscription.created' })
  expect(made.body['events']).toContain('customer.subscription.created')
  expect(await ask('trigger', { event: 'nonsense' })).toMatchObject({ status: 400 })
})

test('an endpoint can be made with a secret of one’s own choice', async () => {
  const { ask } = await withControls()
  expect(await ask('webhook_endpoints', { url: 'http://127.0.0.1:1/', secret: 'whsec_mine' })).toMatchObject({
    body: { secret: 'whsec_mine' },
  })
  expect(await ask('webhook_endpoints', {})).toMatchObject({ status: 400 })
})

test('rate limits are set and cleared, and nonsense is refused', async () => {
  const { ask, stripe } = await withControls()
  expect(await ask('rate_limits', { perMinute: 1 })).toMatchObject({ status: 400 })
  expect(await ask('rate_limits', { perSecond: 0 })).toMatchObject({ status: 400 })
  expect((await ask('rate_limits', { perEndpoint: 1 })).body).toEqual({ perEndpoint: 1 })
  const attempts = await Promise.allSettled(Array.from({ length: 10 }, () => stripe.customers.list()))
  expect(attempts.filter(({ status }) => status === 'rejected').length).toBeGreaterThan(0)
  await ask('rate_limits', {})
  expect(await stripe.customers.list()).toMatchObject({ data: [] })
})

test('a page of another site steers nothing', async () => {
  const { ask, sandbox } = await withControls()
  expect(await ask('clock', { advance_by: 60 }, { origin: 'http://evil.example' })).toMatchObject({ status: 403 })
  expect(await ask('clock', { advance_by: 60 }, { 'sec-fetch-site': 'cross-site' })).toMatchObject({ status: 403 })
  expect(sandbox.now()).toBe(NOW)
})

test('every recipe of trigger leads to its event', async () => {
  const { triggerableEvents } = await import('./trigger.ts')
  for (const event of triggerableEvents()) {
    const { sandbox } = await startTestSandbox()
    expect(await sandbox.trigger(event), event).toContain(event)
  }
})
