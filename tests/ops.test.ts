import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { createMetrics } from '../server/src/http/metrics.ts'

const rules = readFileSync(new URL('../ops/prometheus/tollgate.rules.yml', import.meta.url), 'utf8')

it('alerts on metrics that the server has, under labels that they have (EM-13)', async () => {
  const { registry } = createMetrics({ processMetrics: false })
  const known = (await registry.getMetricsAsJSON()).map((metric) => metric.name)
  const named = [...rules.matchAll(/\b((?:stripe|quota|credits|http)_[a-z_]+?)(?:_count)?(?=[[{])/g)].map(([, name]) => name!)
  expect(new Set(named)).toEqual(
    new Set([
      'stripe_payments_failed_total',
      'stripe_payments_succeeded_total',
      'quota_exceeded_total',
      'http_request_duration_seconds',
    ]),
  )
  expect(named.filter((name) => !known.includes(name))).toEqual([])
})

it('has the two alerts that EM-13 asks for, at its threshold and its duration', () => {
  const payments = /alert: TollgatePaymentFailureRateHigh[\s\S]*?(?=- alert)/.exec(rules)?.[0] ?? ''
  expect(payments).toMatch(/> 0\.05/)
  expect(payments).toContain('for: 10m')
  expect(rules).toMatch(/alert: TollgateFreeTierHitsQuota[\s\S]*quota_exceeded_total\{tier="free"\}/)
})

it('alerts when nobody is being told, on metrics that the server has', async () => {
  const notifications = readFileSync(new URL('../ops/prometheus/notifications.rules.yml', import.meta.url), 'utf8')
  const { registry } = createMetrics({ processMetrics: false })
  const known = (await registry.getMetricsAsJSON()).map((metric) => metric.name)
  const named = [...notifications.matchAll(/\b([a-z]+_[a-z_]+)(?=\{)/g)].map(([, name]) => name!)
  expect(new Set(named)).toEqual(new Set(['notifications_overdue', 'webhook_deliveries_total', 'mails_total']))
  expect(named.filter((name) => !known.includes(name))).toEqual([])
})
