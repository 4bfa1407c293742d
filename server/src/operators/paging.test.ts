import { beforeAll, describe, expect, test } from 'vitest'
import { testBilling } from '../../test/billing.ts'
import { testRoutes } from '../../test/routes.ts'
import { registerExportRoutes } from '../exports/routes.ts'
import { registerMailRoutes } from '../mail/routes.ts'
import { registerPlanMigrationRoutes } from '../plan-migrations/routes.ts'
import { registerCreditRoutes } from '../pricing/credit-routes.ts'
import { registerStandingRoutes } from '../standing/routes.ts'
import { registerWorkspaceAdminRoute } from '../standing/workspace-routes.ts'
import { registerEventRoutes } from '../stripe/inbox/event-routes.ts'
import { registerReconcileRoutes } from '../stripe/reconcile/reconcile-routes.ts'

const billing = testBilling({ webhooks: false })
const call = testRoutes((app) => {
  const { db, clock } = billing.context
  registerMailRoutes(app, { db, clock })
  registerEventRoutes(app, billing.context)
  registerCreditRoutes(app, billing.context)
  registerExportRoutes(app, { ...billing.context, graceDays: 3, kick: () => undefined })
  registerStandingRoutes(app, { ...billing.context, graceDays: 3 })
  registerWorkspaceAdminRoute(app, { ...billing.context, graceDays: 3 })
  registerPlanMigrationRoutes(app, billing.context)
  registerReconcileRoutes(app, billing.context, () => undefined)
})

const COUNT = 23
/** Three of a moment, so that pages end in the midst of one. */
const MOMENT = `timestamptz '2026-03-01' + (n / 3) * interval '1 minute'`

beforeAll(async () => {
  const { db } = billing.database
  await db.query(
    `insert into mails (id, kind, recipient, subject, holds_secret, state, created_at, next_attempt_at)
     select 'mail_' || n, 'trial', 'a@example.com', 'x', false, 'kept', ${MOMENT}, ${MOMENT} from generate_series(1, ${COUNT}) n`,
  )
  await db.query(
    `insert into stripe_events (event_id, type, object_type, livemode, payload, source, stripe_created_at, received_at, next_attempt_at, handled_at)
     select 'evt_' || n, 'x', 'x', false, '{}', 'webhook', ${MOMENT}, ${MOMENT}, ${MOMENT}, ${MOMENT} from generate_series(1, ${COUNT}) n`,
  )
  await billing.createOrganization('credited')
  await db.query(
    `insert into use_credits (organization_id, id, span_id, grant_id, late, quantity, amount_minor, state, created_at)
     select 'credited', 'ucr_' || n, 'span', 'grant', false, 1, 1, 'failed', ${MOMENT} from generate_series(1, ${COUNT}) n`,
  )
  await db.query(
    `insert into exports (organization_id, id, kind, format, filter, state, requested_by, created_at, expires_at)
     select '*', 'exp_' || n, 'mrr', 'csv', '{}', 'done', 'operator:x', ${MOMENT}, ${MOMENT} from generate_series(1, ${COUNT}) n`,
  )
  await db.query(
    `insert into organizations (id, name, email, created_at)
     select 'moved_' || n, 'Moved', 'a@example.com', ${MOMENT} from generate_series(2, ${COUNT}) n`,
  )
  await db.query(
    `insert into stripe_drifts (organization_id, object_type, object_id, field, found_at)
     select 'credited', 'invoice', 'in_' || n, 'status', ${MOMENT} from generate_series(1, ${COUNT}) n`,
  )
  const { version } = billing.context.catalogs.current
  await db.query(
    `insert into plan_migrations (id, to_version, at, actor, created_at) values ('mig_1', $1, 'now', 'operator:x', now())`,
    [version],
  )
  await db.query(
    `insert into plan_migration_moves
       (organization_id, migration_id, plan_key, from_version, quantity, currency, from_amount_minor, to_amount_minor, state, updated_at)
     select id, 'mig_1', 'pro', $1, 1, 'usd', 1, 1, 'done', now() from organizations`,
    [version],
  )
})

describe.each([
  ['mails', 'mails', 'id'],
  ['stripe-events', 'events', 'event_id'],
  ['admin/exports', 'exports', 'id'],
  ['admin/billing/failed-credits', 'credits', 'id'],
  ['admin/billing', 'organizations', 'organization_id'],
  ['admin/workspaces', 'workspaces', 'id'],
  ['admin/catalog/migrations/mig_1/moves', 'moves', 'organization_id'],
  ['admin/drift', 'drifts', 'id'],
])('the list %s', (path, rows, id) => {
  test('is read page by page to its end, each row once', async () => {
    const seen: string[] = []
    let more = true
    for (let page = 0; more && page < COUNT; page += 1) {
      const after = seen.length === 0 ? '' : `&starting_after=${seen.at(-1)}`
      const { status, body } = await call('GET', `/api/v1/${path}?limit=5${after}`)
      expect(status, JSON.stringify(body)).toBe(200)
      seen.push(...(body[rows] as Record<string, string>[]).map((row) => row[id]!))
      more = body['has_more'] === true
    }
    expect(new Set(seen).size).toBe(COUNT)
    expect(seen.length).toBe(COUNT)
  })

  test.each(['none', '999999'])('does not begin again after a row that there is not: %s', async (after) => {
    const answer = await call('GET', `/api/v1/${path}?starting_after=${after}`)
    expect(answer).toMatchObject({ status: 400, body: { code: 'invalid_request', field: 'starting_after' } })
  })

  test('begins at its first row after nothing', async () => {
    const [first, unnamed] = await Promise.all(
      ['', '&starting_after='].map((after) => call('GET', `/api/v1/${path}?limit=1${after}`)),
    )
    expect(unnamed).toMatchObject({ status: 200, body: first!.body })
  })
})

test('the list of what is not billed goes on after an organization whose gap was closed meanwhile', async () => {
  const gaps = '/api/v1/admin/catalog/metered-gaps'
  expect(await call('GET', `${gaps}?starting_after=moved_2`)).toMatchObject({ status: 200, body: { subscriptions: [] } })
  const answer = await call('GET', `${gaps}?starting_after=none`)
  expect(answer).toMatchObject({ status: 400, body: { code: 'invalid_request', field: 'starting_after' } })
})

describe.each(['admin/billing', 'admin/workspaces'])('an organization’s own %s', (path) => {
  test('does not tell that there is another organization', async () => {
    const answers = await Promise.all(
      ['moved_2', 'none'].map((after) => call('GET', `/api/v1/${path}?starting_after=${after}`, undefined, 'credited')),
    )
    expect(answers.map(({ status }) => status)).toEqual([400, 400])
    expect(answers[0]!.body['detail']).toBe(answers[1]!.body['detail'])
  })
})
