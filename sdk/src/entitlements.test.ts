import { describe, expect, it } from 'vitest'
import { createPeer } from '../test/usage-peer.ts'
import { rememberEntitlements, type EntitlementAnswer } from './entitlements.ts'
import { TollgateError, TollgateUnreachableError } from './errors.ts'
import { createMemoryQueue } from './queue.ts'
import { createResilientClient } from './resilient.ts'
import { createTollgateClient } from './usage.ts'

const sso: EntitlementAnswer = {
  feature: 'sso',
  name: 'Single sign-on',
  type: 'boolean',
  unit: null,
  allowed: true,
  code: null,
  reason: null,
  value: true,
  source: 'plan',
  plan: 'pro',
  override_expires_at: null,
}

describe('a client', () => {
  it('asks for one feature or for all, of its own organization or of another', async () => {
    const asked: string[] = []
    const client = createTollgateClient({
      url: 'http://tollgate/prefix',
      apiKey: 'tg_key',
      fetch: async ({ url }) => {
        asked.push(url)
        return Response.json(url.includes('/entitlements/') ? sso : { plan: 'pro', entitlements: [sso] })
      },
    })
    expect(await client.entitlement('sso')).toEqual(sso)
    expect(await client.entitlements()).toEqual([sso])
    await client.entitlement('a b', { organizationId: 'acme & co' })
    await client.entitlements({ organizationId: 'acme' })
    const base = 'http://tollgate/prefix/api/v1/entitlements'
    expect(asked).toEqual([`${base}/sso`, base, `${base}/a%20b?organization_id=acme%20%26%20co`, `${base}?organization_id=acme`])
  })
})

describe('a resilient client', () => {
  it('answers what was answered last while Tollgate is away, of each organization, and nothing that it was never told', async () => {
    const { client } = createPeer(1)
    const away = new TollgateUnreachableError('no answer')
    let failure: Error | null = null
    const entitlement = async (feature: string, { organizationId = 'own' } = {}) => {
      if (failure !== null) throw failure
      return { ...sso, feature, plan: organizationId }
    }
    const resilient = createResilientClient({ ...client, entitlement }, { queue: createMemoryQueue() })
    await resilient.entitlement('sso')
    await resilient.entitlement('sso', { organizationId: 'acme' })
    failure = away
    expect((await resilient.entitlement('sso')).plan).toBe('own')
    expect((await resilient.entitlement('sso', { organizationId: 'acme' })).plan).toBe('acme')
    await expect(resilient.entitlement('exports')).rejects.toBe(away)
    failure = new TollgateError(401, { title: 'no', code: 'unauthenticated' })
    await expect(resilient.entitlement('sso')).rejects.toBe(failure)
  })

  it('forgets what was asked for longest ago, beyond 10,000 answers', async () => {
    let isAway = false
    const read = rememberEntitlements(async (feature) => {
      if (isAway) throw new TollgateUnreachableError('no answer')
      return { ...sso, feature }
    })
    for (let index = 0; index < 10_000; index += 1) await read(`f${index}`)
    await read('f0')
    await read('one more')
    isAway = true
    expect((await read('f0')).feature).toBe('f0')
    await expect(read('f1')).rejects.toThrow('no answer')
  })
})
