import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { dashboard } from '../scripts/generate-dashboard.ts'
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
  expect(rules).toMatch(/alert: TollgateFreeTierHitsQuota[\s\S]*quota_exceeded_total\{tier=~"\(\?i:free\)"\}/)
})

it('alerts when nobody is being told, on metrics that the server has', async () => {
  const notifications = readFileSync(new URL('../ops/prometheus/notifications.rules.yml', import.meta.url), 'utf8')
  const { registry } = createMetrics({ processMetrics: false })
  const known = (await registry.getMetricsAsJSON()).map((metric) => metric.name)
  const named = [...notifications.matchAll(/\b([a-z]+_[a-z_]+)(?=\{)/g)].map(([, name]) => name!)
  expect(new Set(named)).toEqual(new Set(['notifications_overdue', 'webhook_deliveries_total', 'mails_total']))
  expect(named.filter((name) => !known.includes(name))).toEqual([])
})

it('measures nothing that no guide names', async () => {
  const { registry } = createMetrics({ processMetrics: false })
  const known = (await registry.getMetricsAsJSON()).map((metric) => metric.name)
  const guides = ['operations', 'notifications'].map((name) =>
    readFileSync(new URL(`../docs/${name}.md`, import.meta.url), 'utf8'),
  )
  expect(known.length).toBeGreaterThan(10)
  expect(known.filter((name) => !guides.some((guide) => guide.includes(`\`${name}`)))).toEqual([])
})

const folder = fileURLToPath(new URL('../ops/prometheus/', import.meta.url))
const ruleFiles = readdirSync(folder).filter((name) => name.endsWith('.rules.yml'))

it('shows on the dashboard, and alerts on, only what the server measures', async () => {
  const { registry } = createMetrics({ processMetrics: false })
  const known = (await registry.getMetricsAsJSON()).map((metric) => metric.name)
  const expressions = [...JSON.stringify(dashboard()).matchAll(/"expr":"((?:[^"\\\\]|\\\\.)*)"/g)].map(
    ([, expression]) => expression!,
  )
  expect(expressions.length).toBeGreaterThan(10)
  const rules = ruleFiles.flatMap((name) => [
    ...readFileSync(folder + name, 'utf8').matchAll(/expr: (?:\|\n((?: {12}.*\n)+)|(.*))/g),
  ])
  const all = [...expressions, ...rules.map(([, block, line]) => block ?? line!)]
  const named = all.flatMap((expression) => expression.match(/\b[a-z]+(?:_[a-z]+)+\b(?=[[{)])/g) ?? [])
  expect(named.length).toBeGreaterThan(15)
  const bare = named.map((name) => name.replace(/_(count|bucket|sum)$/, ''))
  expect(bare.filter((name) => !known.includes(name))).toEqual([])
})

it('keeps the dashboard as its script makes it', () => {
  const committed = JSON.parse(readFileSync(new URL('../ops/grafana/tollgate.json', import.meta.url), 'utf8')) as unknown
  expect(committed, 'run: node scripts/generate-dashboard.ts').toEqual(dashboard())
})

it('says of every alert what to do', () => {
  const operations = readFileSync(new URL('../docs/operations.md', import.meta.url), 'utf8')
  const headings = new Set([...operations.matchAll(/^### (\w+)$/gm)].map(([, heading]) => heading!.toLowerCase()))
  for (const name of ruleFiles) {
    const text = readFileSync(folder + name, 'utf8')
    const alerts = [...text.matchAll(/- alert: (\w+)/g)].map(([, alert]) => alert!.toLowerCase())
    const runbooks = [...text.matchAll(/runbook: docs\/operations\.md#(\w+)/g)].map(([, anchor]) => anchor)
    expect(runbooks, name).toEqual(alerts)
    expect(alerts.filter((alert) => !headings.has(alert))).toEqual([])
  }
})

it('has rules that Prometheus takes, where it is installed', () => {
  const checked = spawnSync('promtool', ['check', 'rules', ...ruleFiles.map((name) => folder + name)], { encoding: 'utf8' })
  const missing = checked.error !== undefined && 'code' in checked.error && checked.error.code === 'ENOENT'
  expect(missing || checked.status === 0, checked.stderr ?? '').toBe(true)
})

const read = (path: string): string => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')

it('starts the server in an image and under systemd with one command, on the Node that it is tested on', () => {
  const image = read('ops/Dockerfile')
  const command = JSON.parse(/^CMD (\[.*\])$/m.exec(image)![1]!) as [string, ...string[]]
  const unit = read('ops/systemd/tollgate.service')
  expect(/^ExecStart=\/usr\/bin\/env (.*)$/m.exec(unit)?.[1]).toBe(command.join(' '))
  const { devDependencies } = JSON.parse(read('package.json')) as { devDependencies: { node: string } }
  expect(/^FROM node:(\d+)-slim$/m.exec(image)?.[1]).toBe(devDependencies.node.split('.')[0])
  const [program, ...args] = command
  const { PATH } = process.env
  const bare = spawnSync(program, args, { cwd: fileURLToPath(new URL('..', import.meta.url)), env: { PATH }, encoding: 'utf8' })
  expect([bare.status, bare.stderr]).toEqual([1, expect.stringContaining('DATABASE_URL is missing')])
})
