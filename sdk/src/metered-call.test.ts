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
})
