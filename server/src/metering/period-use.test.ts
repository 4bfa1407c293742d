import { beforeEach, describe, expect, test } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import type { Answered } from '../../test/routes.ts'
import { testUsageRoutes } from '../../test/usage-routes.ts'

const fixture = testMetering({
  meters: { img: {}, vid: {} },
  credits: { credits: { unit: 'credit', costs: { img: 1, vid: 1 } } },
  plans: { free: { name: 'Free', allowances: { credits: { amount: 1000, period: 'calendar_month' } } } },
  defaultPlan: 'free',
})
const { clock } = fixture
const call = testUsageRoutes(fixture)

let organization: string
let keys = 0
beforeEach(async () => {
  clock.set(new Date('2026-03-10T12:00:00Z'))
  organization = await fixture.newOrganization()
})

function post(path: string, body: Record<string, unknown>): Promise<Answered> {
  return call('POST', path, { idempotency_key: `k${(keys += 1)}`, ...body }, organization)
}

const consume = (meter: string, quantity: number): Promise<Answered> => post('/api/v1/usage/consume', { meter, quantity })

async function give(body: Record<string, unknown>): Promise<void> {
  const answer = await call('POST', '/api/v1/grants', { organization_id: organization, balance: 'credits', ...body })
  expect(answer.status).toBe(201)
}

const usage = async (): Promise<unknown> => (await call('GET', '/api/v1/usage', undefined, organization)).body

describe('EM-8 credits used are those of the period', () => {
  test('EM-7 a new cycle starts the usage again: what was drawn from a grant that goes on lowers the limit', async () => {
    await give({ kind: 'top_up', amount: 100 })
    expect((await consume('img', 1060)).body).toMatchObject({ total_credits_used: 1060, quota_remaining: 40 })
    expect(await usage()).toMatchObject({ credits_used: 1060, monthly_limit: 1100, quota_remaining: 40 })
    clock.set(new Date('2026-04-02T00:00:00Z'))
    expect(await usage()).toMatchObject({ credits_used: 0, monthly_limit: 1040, quota_remaining: 1040, usage_percentage: 0 })
    expect((await consume('img', 1)).body).toMatchObject({ total_credits_used: 1, quota_remaining: 1039 })
  })

  test('a grant that was used up and ends in mid-period takes nothing off them', async () => {
    await give({ kind: 'promotion', amount: 5, expires_at: '2026-03-11T00:00:00Z' })
    await give({ kind: 'manual', amount: 10, meters: ['vid'] })
    await consume('img', 12)
    expect((await consume('vid', 4)).body).toMatchObject({ total_credits_used: 16 })
    clock.set(new Date('2026-03-12T00:00:00Z'))
    expect(await usage()).toMatchObject({ credits_used: 16, quota_remaining: 999 })
    expect((await consume('img', 1)).body).toMatchObject({ total_credits_used: 17 })
  })

  test('a correction gives them back to the period of the use, whatever it drew from', async () => {
    await give({ kind: 'promotion', amount: 50 })
    await post('/api/v1/usage/consume', { meter: 'img', quantity: 30, idempotency_key: `first ${organization}` })
    await consume('img', 10)
    clock.set(new Date('2026-04-02T00:00:00Z'))
    await consume('img', 4)
    await post('/api/v1/usage/corrections', { corrects: `first ${organization}`, quantity: -30 })
    expect(await usage()).toMatchObject({ credits_used: 4, quota_remaining: 1036 })
  })

  test('what was held on a carried grant counts where it is settled', async () => {
    await give({ kind: 'promotion', amount: 50 })
    const { body } = await post('/api/v1/usage/reservations', { meter: 'img', quantity: 30, expires_in_seconds: 3600 })
    expect(body).toMatchObject({ allowed: true })
    expect(await usage()).toMatchObject({ credits_used: 0, monthly_limit: 1050, quota_remaining: 1020 })
    const path = `/api/v1/usage/reservations/${String(body['reservation_id'])}/settle`
    expect((await call('POST', path, { quantity: 20 }, organization)).status).toBe(200)
    expect(await usage()).toMatchObject({ credits_used: 20, monthly_limit: 1050, quota_remaining: 1030 })
  })
})
