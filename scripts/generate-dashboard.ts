/**
 * Writes ops/grafana/tollgate.json: `node scripts/generate-dashboard.ts`. `tests/ops.test.ts` holds that the file is what this makes, and
 * that the server has every metric it asks for.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

type Panel = { readonly title: string; readonly description: string; readonly queries: readonly Query[]; readonly unit?: string }
type Query = { readonly expression: string; readonly legend: string }

const query = (expression: string, legend: string): Query => ({ expression, legend })

const ROWS: readonly { readonly title: string; readonly panels: readonly Panel[] }[] = [
  {
    title: 'Money',
    panels: [
      {
        title: 'Monthly recurring revenue',
        description: 'In minor units, by currency. Definition: docs/analytics.md.',
        queries: [query('max by (currency) (sum by (currency, instance) (mrr_minor_units))', '{{currency}}')],
      },
      {
        title: 'Subscriptions that stand',
        description: 'In trial, paid, or being retried, by tier.',
        queries: [query('max by (tier) (stripe_subscriptions_total)', '{{tier}}')],
      },
      {
        title: 'Payments',
        description: 'Invoices paid, and attempts that failed, by the hour.',
        queries: [
          query('sum(increase(stripe_payments_succeeded_total[1h]))', 'paid'),
          query('sum(increase(stripe_payments_failed_total[1h]))', 'failed'),
        ],
      },
      {
        title: 'Share of payments that fail',
        description: 'Above 5 % for ten minutes, TollgatePaymentFailureRateHigh fires.',
        queries: [
          query(
            'sum(rate(stripe_payments_failed_total[30m])) / (sum(rate(stripe_payments_failed_total[30m])) + sum(rate(stripe_payments_succeeded_total[30m])))',
            'share',
          ),
        ],
        unit: 'percentunit',
      },
    ],
  },
  {
    title: 'Use',
    panels: [
      {
        title: 'Credits used',
        description: 'By the second, over all customers.',
        queries: [query('sum(rate(credits_used_total[5m]))', 'credits')],
      },
      {
        title: 'Uses refused for want of quota',
        description: 'By the hour and tier.',
        queries: [query('sum by (tier) (increase(quota_exceeded_total[1h]))', '{{tier}}')],
      },
    ],
  },
  {
    title: 'Following Stripe',
    panels: [
      {
        title: 'Events that wait',
        description: 'Overdue by five minutes, or given up until a replay.',
        queries: [query('max by (state) (stripe_events_waiting)', '{{state}}')],
      },
      {
        title: 'Since Stripe was last asked and compared with',
        description: 'For missed events every five minutes while the server can reach Stripe; everything once a day.',
        queries: [
          query('max(stripe_reconciliation_age_seconds)', 'missed events'),
          query('max(stripe_comparison_age_seconds)', 'everything'),
        ],
        unit: 's',
      },
    ],
  },
  {
    title: 'Telling others',
    panels: [
      {
        title: 'Notifications overdue',
        description: 'Events, webhooks and mails that should have gone out five minutes ago.',
        queries: [query('max by (queue) (notifications_overdue)', '{{queue}}')],
      },
      {
        title: 'Webhook deliveries and mails',
        description: 'Attempts by the hour and outcome.',
        queries: [
          query('sum by (outcome) (increase(webhook_deliveries_total[1h]))', 'webhook {{outcome}}'),
          query('sum by (outcome) (increase(mails_total[1h]))', 'mail {{outcome}}'),
        ],
      },
    ],
  },
  {
    title: 'The server',
    panels: [
      {
        title: 'Requests',
        description: 'By the second and status.',
        queries: [query('sum by (status) (rate(http_request_duration_seconds_count[5m]))', '{{status}}')],
        unit: 'reqps',
      },
      {
        title: 'Time until a request was answered',
        description: 'Half of the requests are quicker than p50, 95 of 100 than p95.',
        queries: [0.5, 0.95, 0.99].map((share) =>
          query(`histogram_quantile(${share}, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))`, `p${share * 100}`),
        ),
        unit: 's',
      },
    ],
  },
]

const WIDTH = 12
const HEIGHT = 8

/** The dashboard as Grafana imports it; the data source is chosen on import. */
export function dashboard(): object {
  let id = 0
  let y = 0
  const panels = ROWS.flatMap(({ title, panels: own }) => {
    const row = { id: (id += 1), type: 'row', title, collapsed: false, gridPos: { h: 1, w: 2 * WIDTH, x: 0, y }, panels: [] }
    const placed = own.map((panel, index) => ({
      id: (id += 1),
      type: 'timeseries',
      title: panel.title,
      description: panel.description,
      datasource: { type: 'prometheus', uid: '${DS_PROMETHEUS}' },
      gridPos: { h: HEIGHT, w: WIDTH, x: (index % 2) * WIDTH, y: y + 1 + Math.floor(index / 2) * HEIGHT },
      fieldConfig: { defaults: { unit: panel.unit ?? 'short', min: 0 }, overrides: [] },
      options: { legend: { displayMode: 'list', placement: 'bottom' }, tooltip: { mode: 'multi' } },
      targets: panel.queries.map(({ expression, legend }, place) => ({
        refId: String.fromCharCode(65 + place),
        expr: expression,
        legendFormat: legend,
      })),
    }))
    y += 1 + Math.ceil(own.length / 2) * HEIGHT
    return [row, ...placed]
  })
  return {
    __inputs: [{ name: 'DS_PROMETHEUS', label: 'Prometheus', type: 'datasource', pluginId: 'prometheus' }],
    title: 'Tollgate',
    uid: 'tollgate',
    tags: ['tollgate', 'billing'],
    schemaVersion: 39,
    editable: true,
    refresh: '1m',
    time: { from: 'now-24h', to: 'now' },
    panels,
  }
}

const file = new URL('../ops/grafana/tollgate.json', import.meta.url)

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  mkdirSync(new URL('.', file), { recursive: true })
  writeFileSync(file, `${JSON.stringify(dashboard(), null, 2)}\n`)
}
