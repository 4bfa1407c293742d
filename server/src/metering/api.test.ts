import { beforeAll, describe, expect, test } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import { DomainError } from '../lib/errors.ts'
import { createUsageApi, type UsageApi, type UsageInput } from './api.ts'

const fixture = testMetering()
let api: UsageApi

beforeAll(() => {
  api = createUsageApi({ ...fixture.context(), metering: fixture.metering(), db: fixture.database.db })
})

describe('metering in process', () => {
  test('what is wrong with an item of a batch is that item’s own, as over HTTP', async () => {
    const organizationId = await fixture.newOrganization()
    const use = (over: Partial<UsageInput>) => ({ verb: 'consume' as const, organizationId, meter: 'episode_search', ...over })
    const results = await api.batch([
      use({}),
      use({ quantity: -1 }),
      use({ meter: 'nothing' }),
      use({ occurredAt: new Date('x') }),
      use({ properties: { card: '4242 4242 4242 4242' } }),
      use({ quantity: 2 }),
    ])
    expect(results.map((result) => ('error' in result ? result.error.code : result.quantity))).toEqual([
      1,
      'invalid_quantity',
      'unknown_meter',
      'invalid_request',
      'invalid_request',
      2,
    ])
  })

  test('what no request could be is a DomainError that names its field', async () => {
    const organizationId = await fixture.newOrganization()
    const refusalOf = async (asked: () => Promise<unknown>): Promise<unknown> => {
      const error: unknown = await asked().catch((thrown: unknown) => thrown)
      return error instanceof DomainError ? [error.code, error.details['field']] : error
    }
    const use = { organizationId, meter: 'episode_search' }
    expect(await refusalOf(async () => api.track({ ...use, occurredAt: new Date('x') }))).toEqual([
      'invalid_request',
      'occurred_at',
    ])
    const nobody = ['invalid_request', 'organization_id']
    expect(await refusalOf(async () => api.balances({ organizationId: 'a\0b' }))).toEqual(nobody)
    expect(await refusalOf(async () => api.usage({ organizationId: 'a\0b' }))).toEqual(nobody)
    expect(await refusalOf(async () => api.check({ ...use, organizationId: 'a\0b' }))).toEqual(nobody)
    const { organizationId: _left, ...nameless } = use
    expect(await refusalOf(async () => api.track(nameless as UsageInput))).toEqual(nobody)
  })
})
