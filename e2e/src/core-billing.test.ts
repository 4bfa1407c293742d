import { createRecorders, createTollgateClient } from '@tollgate/sdk'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createPlace, startProgram, type Program } from './process.ts'

let program: Program
let place: Awaited<ReturnType<typeof createPlace>>
let token: string
let organization: string

beforeAll(async () => {
  place = await createPlace()
  program = await startProgram({ ...place, program: { kind: 'example', name: 'core-billing' } })
  const person = { name: 'Ada', email: 'ada@example.com', password: 'correct horse battery' }
  const signedUp = await call('/api/auth/sign-up', person)
  token = signedUp.body['access_token'] as string
  organization = (signedUp.body['caller'] as { organization_id: string }).organization_id
})

afterAll(async () => {
  await program?.end('SIGINT')
  await place?.remove()
})

async function call(path: string, body?: unknown): Promise<{ status: number; body: Record<string, unknown> }> {
  const answer = await fetch(program.runtime.url + path, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { 'content-type': 'application/json', ...(token ? { authorization: `Bearer ${token}` } : {}) },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  return { status: answer.status, body: (await answer.json()) as Record<string, unknown> }
}

describe('Core billing', () => {
  it('CB-5 both routes answer 403 with the reason where the plan includes nothing', async () => {
    for (const [path, body] of [
      ['/api/chat', { message: 'Good morning' }],
      ['/api/scrape', { url: 'https://example.com' }],
    ] as const) {
      expect(await call(path, body)).toMatchObject({
        status: 403,
        body: { error: 'not_included', message: expect.stringContaining('The plan none') as string },
      })
    }
  })

  it.each([
    ['basic', [100_000, 1000, 100]],
    ['pro', [1_000_000, 10_000, 1000]],
    ['enterprise', [0, 0, 0]],
  ] as const)('CB-4 the limits of %s; 0 is unlimited', async (plan, [tokens, calls, tasks]) => {
    const bought =
      plan === 'basic'
        ? await call('/api/billing/subscribe', { plan, payment_method_id: 'pm_card_visa' })
        : await call('/api/billing/upgrade', { plan })
    expect(bought.status).toBe(200)
    const unlimited = plan === 'enterprise'
    expect((await call('/api/billing/quota')).body['quotas']).toMatchObject({
      tokens: { limit: tokens, unlimited },
      api_calls: { limit: calls, unlimited },
      scraping_tasks: { limit: tasks, unlimited },
    })
  })

  it('CB-2 a host records and checks its three meters; CB-5 a used-up quota answers 403 with the reason', async () => {
    expect((await call('/api/billing/downgrade', { plan: 'basic', at: 'now' })).status).toBe(200)
    const recorders = createRecorders(createTollgateClient({ url: program.runtime.url, apiKey: program.runtime.operatorKey }))
    for (const recorder of [recorders.tokens, recorders.apiCalls]) {
      expect(await recorder.check(organization, 1000)).toEqual({ allowed: true, reason: null })
      expect(await recorder.record(organization, 10, { model: 'large' })).toMatchObject({ allowed: true })
    }
    await recorders.scrapingTasks.record(organization, 100)
    const reason = 'Monthly quota exceeded. Used 100/100 scraping tasks.'
    expect(await recorders.scrapingTasks.check(organization, 1)).toEqual({ allowed: false, reason })
    const refused = await call('/api/scrape', { url: 'https://example.com' })
    expect(refused).toMatchObject({ status: 403, body: { error: 'quota_exceeded', message: reason } })
  })
})
