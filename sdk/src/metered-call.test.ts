import { describe, expect, it } from 'vitest'
import { TollgateError, TollgateUnreachableError } from './errors.ts'
import { checkStanding } from './gated-call.ts'
import { beginMeteredCall } from './metered-call.ts'
import { createMemoryQueue } from './queue.ts'
import { createResilientClient } from './resilient.ts'
import { createTollgateClient, type UsageClient } from './usage.ts'

const client = createTollgateClient({ url: 'http://127.0.0.1:9', apiKey: 'tg_key', retries: 0 })
function failing(error: Error): UsageClient {
  const fail = async (): Promise<never> => {
    throw error
  }
  return { ...client, reserve: fail, gate: fail }
}
const answered = (status: number) => new TollgateError(status, { title: 'no', code: 'some_code', detail: 'Why.' })

describe('a metered or gated call', () => {
  it('is answered 503 while Tollgate is away, whether nobody answers or somebody that it cannot', async () => {
    const away = { status: 503, body: { error: 'tollgate_unreachable' } }
    for (const peer of [
      client,
      failing(new TollgateUnreachableError('POST http://inside had no answer')),
      failing(answered(502)),
      createResilientClient(client, { queue: createMemoryQueue() }),
    ]) {
      const call = await beginMeteredCall(peer, { meter: 'search' })
      expect(call).toMatchObject({ refusal: away, headers: { 'Retry-After': '1' } })
      expect(JSON.stringify(call.refusal)).not.toContain('inside')
      expect(await call.finish({ status: 500 })).toEqual(call.headers)
      expect(await checkStanding(peer, {})).toMatchObject(away)
    }
  })

  it('passes on that a key is wrong, and leaves to the host what is the host’s own fault', async () => {
    expect((await beginMeteredCall(failing(answered(401)), { meter: 'search' })).refusal).toEqual({
      status: 401,
      body: { error: 'some_code', message: 'Why.' },
    })
    await expect(beginMeteredCall(failing(answered(422)), { meter: 'search' })).rejects.toThrow('Why.')
    await expect(checkStanding(failing(new Error('oops')), {})).rejects.toThrow('oops')
  })

  it('is refused for its quota also where the key may not read, or the numbers cannot be read now (EM-4)', async () => {
    const balance = { balance: 'credits', unit: 'credit', plan: 'free', period_start: null, period_end: null }
    const refusal = {
      allowed: false,
      code: 'quota_exceeded',
      reason: 'Daily quota exceeded. Used 99.999999/100 credits.',
      balance: { ...balance, amount: 100, used: '99.999999', remaining: '0.000001', overage: 0, reserved: 0 },
      credits_used: 0,
      total_credits_used: '99.999999',
      quota_remaining: '0.000001',
      quota_exceeded: true,
    }
    for (const error of [answered(403), new TollgateUnreachableError('no answer')]) {
      const usage = async () => {
        throw error
      }
      expect(await beginMeteredCall({ ...client, reserve: async () => refusal, usage }, { meter: 'search' })).toMatchObject({
        headers: { 'X-Credits-Used': '99.999999', 'X-Credits-Remaining': '0.000001', 'X-Credits-Total': '100' },
        refusal: {
          status: 429,
          body: {
            error: 'quota_exceeded',
            message: 'Daily quota exceeded. Used 99.999999/100 credits.',
            usage: { credits_used: '99.999999', monthly_limit: 100, quota_remaining: '0.000001', usage_percentage: 99.99 },
            upgrade_url: '/api/v1/billing/upgrade',
          },
        },
      })
    }
    const broken = async () => {
      throw new Error('oops')
    }
    const call = beginMeteredCall({ ...client, reserve: async () => refusal, usage: broken }, { meter: 'search' })
    await expect(call).rejects.toThrow('oops')
  })
})
