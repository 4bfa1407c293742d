import { describe, expect, it } from 'vitest'
import { readConfig } from '../config.ts'
import { judgeAddresses, judgeClocks, judgeTaxes, judgeWebhooks, readWebhookAnswers, type WebhookFacts } from './doctor-rules.ts'

const facts: WebhookFacts = {
  answered: { accepted: 12, refused: 0 },
  brought: 12,
  missed: 0,
  waiting: 0,
  address: 'https://billing.example.com/api/v1/billing/webhook',
}

describe('the doctor, of webhooks,', () => {
  it('finds nothing wrong while they come', () => {
    expect(judgeWebhooks(facts)).toBe('12 events of the last day came by webhook, 0 were found by asking Stripe')
    expect(judgeWebhooks({ ...facts, answered: null, brought: 0 })).toContain('0 events of the last day')
    // Anybody can send one that is not signed.
    expect(judgeWebhooks({ ...facts, answered: { accepted: 12, refused: 3 } })).toContain('3 were refused for their signature')
  })

  it('warns of a secret that is not that of the endpoint', () => {
    expect(() => judgeWebhooks({ ...facts, answered: { accepted: 0, refused: 3 } })).toThrow(
      '3 webhooks were refused since the server started, and none was taken: STRIPE_WEBHOOK_SECRET is probably not that of the endpoint',
    )
  })

  it('warns where none comes although there are events, and where nobody handles them', () => {
    expect(() => judgeWebhooks({ ...facts, answered: null, brought: 0, missed: 4 })).toThrow(
      'No webhook of the last day came, and 4 events were found by asking Stripe: there is no endpoint at https://billing.example.com/',
    )
    expect(() => judgeWebhooks({ ...facts, waiting: 2 })).toThrow('2 events of Stripe have waited')
  })

  it('reads what a server answered of its metrics', () => {
    const line = (route: string, status: number, count: number): string =>
      `http_request_duration_seconds_count{method="POST",route="${route}",status="${status}"} ${count}`
    const text = [
      line('/api/v1/billing/webhook', 400, 3),
      line('/api/v1/webhooks/stripe', 400, 2),
      line('/api/v1/billing/webhooks', 200, 7),
      line('/api/v1/webhooks', 400, 50),
      line('/api/v1/billing/subscribe', 200, 50),
    ].join('\n')
    expect(readWebhookAnswers(text)).toEqual({ accepted: 7, refused: 5 })
  })
})

it('the doctor warns where customers of a live key are sent to this machine, or without encryption', () => {
  const live = readConfig({ STRIPE_SECRET_KEY: 'sk_live_x', STRIPE_WEBHOOK_SECRET: 'whsec_x' })
  expect(() => judgeAddresses(live, 'http://localhost:3000')).toThrow('set TOLLGATE_PUBLIC_URL')
  expect(() => judgeAddresses(live, 'http://billing.example.com')).toThrow('not https')
  expect(judgeAddresses(live, 'https://billing.example.com')).toContain('mails are kept and not sent')
  expect(judgeAddresses(readConfig({}), 'http://localhost:3000')).toContain('http://localhost:3000')
})

it('the doctor warns where Stripe Tax is asked for and not set up, and tells where tax is collected', () => {
  expect(() => judgeTaxes({ missing: ['head_office'], countries: [] })).toThrow('Stripe Tax is not set up (head_office)')
  expect(judgeTaxes({ missing: [], countries: [] })).toContain('no country is registered')
  expect(judgeTaxes({ missing: [], countries: ['AT', 'DE'] })).toBe('Stripe Tax works it out; registered: AT, DE')
})

it('the doctor warns of a clock that is wrong', () => {
  const at = (seconds: number) => new Date(Date.UTC(2026, 2, 10, 12, 0, seconds))
  expect(judgeClocks(at(0), at(29))).toBe('of one time with the database')
  expect(() => judgeClocks(at(45), at(0))).toThrow('45 s ahead of')
  expect(() => judgeClocks(at(0), at(45))).toThrow('45 s behind')
})
