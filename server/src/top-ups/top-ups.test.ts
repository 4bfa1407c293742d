import { beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { PATIENCE } from '../../test/patience.ts'
import { cardFields, sendForm } from '../../../sandbox/test/pages.ts'
import type { Answer } from '../../test/billing-requests.ts'
import { testBilling } from '../../test/billing.ts'
import { failing } from '../../test/failing.ts'
import { listGrants, lockAccount } from '../grants/store.ts'
import { formatQuantity } from '../lib/quantity.ts'
import { createMetering, type Metering } from '../metering/metering.ts'
import { openUsageConnections } from '../metering/write/pipeline.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import { buyTopUp } from './actions.ts'
import { deleteRequest, takeRequests } from './auto-store.ts'
import { runAutoTopUps } from './auto.ts'
import { takeBackReleased } from './settle.ts'

const billing = testBilling({
  catalog: {
    meters: { tokens: { name: 'Tokens of text' }, pages: {} },
    plans: { free: { name: 'Free', allowances: { tokens: { amount: 100, period: 'calendar_month' }, pages: { amount: 10 } } } },
    topUps: {
      small: { name: '500 tokens', balance: 'tokens', amount: 500, priceMinor: 1_000, expiresAfterDays: 90 },
      large: { name: '2,000 tokens', balance: 'tokens', amount: 2_000, priceMinor: 3_000 },
      pages: { name: '100 pages', balance: 'pages', amount: 100, priceMinor: 900 },
    },
    defaultPlan: 'free',
  },
})
const PATH = '/api/v1/billing/top-ups'
let metering: Metering
let organization: string
let count = 0

beforeAll(() => {
  const { context, database } = billing
  const connections = openUsageConnections({ connectionString: database.url, size: 2 })
  metering = createMetering({ connections, catalogs: context.catalogs, clock: context.clock, graceDays: 3 })
  return async () => {
    await metering.stop()
    await connections.close()
  }
})
beforeEach(async () => {
  organization = await billing.createOrganization(`org_${(count += 1)}`)
})

async function saveCard(card = 'pm_card_visa'): Promise<void> {
  const answer = await billing.call(organization, 'POST', '/api/v1/billing/payment-methods', { payment_method_id: card })
  expect(answer.status, JSON.stringify(answer.body)).toBeLessThan(300)
}

const ordered = (payWith: 'saved' | 'page') => ({
  organizationId: organization,
  topUpKey: 'small',
  quantity: 1,
  idempotencyKey: 'lost',
  payWith,
  successUrl: undefined,
  cancelUrl: undefined,
})

/** A context that asks for a payment or for a page where one pays, and never hears that it was done. */
const losing = (kind: 'create_payment' | 'create_payment_page') =>
  failing(billing.context, 'after', kind, new StripeCallError('stripe_unavailable', 'lost', 'unknown'))

const buy = (body: Record<string, unknown>): Promise<Answer> => billing.call(organization, 'POST', PATH, body)
async function purchases(): Promise<Record<string, unknown>[]> {
  return (await billing.call(organization, 'GET', PATH)).body['purchases'] as Record<string, unknown>[]
}

/** Amount, used and revoked of the organization's top-ups, oldest first. */
async function topUps(): Promise<string[][]> {
  const grants = await listGrants(billing.database.db, organization)
  return grants
    .filter(({ kind }) => kind === 'top_up')
    .toReversed()
    .map(({ amount, used, revoked }) => [amount ?? 0n, used, revoked].map(formatQuantity))
}

async function use(tokens: number): Promise<boolean> {
  const answer = await metering.ask({
    verb: 'consume',
    organizationId: organization,
    meter: 'tokens',
    quantity: BigInt(tokens) * 1_000_000n,
    idempotencyKey: `use ${(count += 1)}`,
    occurredAt: null,
    properties: null,
  })
  return answer.allowed
}

const charges = () => billing.sandbox.all('charge').filter(({ metadata }) => metadata['tollgate_organization'] === organization)

async function refund(amount: number): Promise<void> {
  await billing.stripe.refunds.create({ charge: charges()[0]!.id, amount })
}

describe('a package', () => {
  test('is paid with the saved card and granted at once, and drawn after the plan’s own', async () => {
    await saveCard()
    const bought = await buy({ top_up: 'small', quantity: 2 })
    expect(bought).toMatchObject({ status: 201, body: { status: 'paid', amount: 1_000, price_minor: 2_000, url: null } })
    expect(await use(1_100)).toBe(true)
    expect(await use(1)).toBe(false)
    expect(await topUps()).toEqual([['1000', '1000', '0']])
    const [grant] = (await listGrants(billing.database.db, organization)).filter(({ kind }) => kind === 'top_up')
    expect(grant!.expiresAt!.getTime() - grant!.startsAt.getTime()).toBe(90 * 86_400_000)
  })

  test('is bought once under a key, however often it is asked for; another package under it is refused', async () => {
    await saveCard()
    const asked = { top_up: 'small', idempotency_key: 'order 7' }
    const [first, second] = await Promise.all([buy(asked), buy(asked)])
    expect([first.status, second.status]).toEqual([201, 201])
    expect(second.body['id']).toBe(first.body['id'])
    expect(await topUps()).toEqual([['500', '0', '0']])
    expect(await buy({ ...asked, top_up: 'large' })).toMatchObject({ status: 409, body: { field: 'top_up' } })
    expect(await buy({ ...asked, quantity: 2 })).toMatchObject({ status: 409, body: { field: 'quantity' } })
    expect(await purchases()).toHaveLength(1)
  })

  test('is paid on a page where there is no card, granted by its webhook, once however often that comes', async () => {
    const opened = await buy({ top_up: 'large', idempotency_key: 'order 8' })
    expect(opened).toMatchObject({ status: 202, body: { status: 'pending', grant_id: null } })
    expect(await topUps()).toEqual([])
    await sendForm(String(opened.body['url']), { email: 'payer@example.com', ...cardFields('4242424242424242') })
    await vi.waitFor(async () => expect(await topUps()).toEqual([['2000', '0', '0']]), PATIENCE)
    await billing.call('operator', 'POST', '/api/v1/billing/refresh', { organization_id: organization })
    expect(await buy({ top_up: 'large', idempotency_key: 'order 8' })).toMatchObject({ status: 201, body: { status: 'paid' } })
    expect(await topUps()).toEqual([['2000', '0', '0']])
    expect(await purchases()).toMatchObject([{ status: 'paid', url: null }])
    // The card of the page pays the next one.
    await vi.waitFor(async () => expect(await buy({ top_up: 'small' })).toMatchObject({ status: 201 }), PATIENCE)
  })

  test('of a declined card is not granted, and the purchase says why', async () => {
    await saveCard('pm_card_chargeCustomerFail')
    for (const _ of ['at first', 'and asked for again']) {
      const declined = await buy({ top_up: 'small', idempotency_key: 'declined' })
      expect(declined).toMatchObject({ status: 402, body: { code: 'payment_failed' } })
    }
    expect(await topUps()).toEqual([])
    expect(await purchases()).toMatchObject([{ status: 'failed', failure_code: 'payment_failed' }])
    expect((await billing.call(organization, 'GET', '/api/v1/usage')).status).not.toBe(402)
  })

  test('for which the bank asks the customer has a page', async () => {
    await saveCard('pm_card_authenticationRequired')
    expect(await buy({ top_up: 'small' })).toMatchObject({ status: 202, body: { status: 'pending', url: expect.any(String) } })
  })

  test('whose payment’s answer was lost is paid once: asked for again, it is found', async () => {
    await saveCard()
    await expect(buyTopUp(losing('create_payment'), ordered('saved'), { actor: 'test', requestId: 'req' })).rejects.toThrow(
      'lost',
    )
    expect(await buy({ top_up: 'small', idempotency_key: 'lost' })).toMatchObject({ status: 201, body: { status: 'paid' } })
    expect(charges()).toHaveLength(1)
    expect(await topUps()).toEqual([['500', '0', '0']])
  })

  test('whose page’s answer was lost has that page when asked for again, and is not charged to the saved method', async () => {
    await saveCard()
    await expect(buyTopUp(losing('create_payment_page'), ordered('page'), { actor: 'test', requestId: 'req' })).rejects.toThrow(
      'lost',
    )
    const again = await buy({ top_up: 'small', idempotency_key: 'lost', pay_with: 'page' })
    const pages = billing.sandbox
      .all('checkout.session')
      .filter(({ metadata }) => metadata?.['tollgate_organization'] === organization)
    expect(again).toMatchObject({ status: 202, body: { status: 'pending', url: pages[0]!.url } })
    expect([pages.length, charges().length]).toEqual([1, 0])
    expect(await buy({ top_up: 'small', idempotency_key: 'lost' })).toMatchObject({ status: 409, body: { field: 'pay_with' } })
  })

  test('that was to be paid on a page, and never got as far, gets its page when asked for again', async () => {
    await saveCard()
    const away = billing.with({
      gateway: {
        ...billing.context.gateway!,
        perform: () => Promise.reject(new StripeCallError('stripe_failed', 'Stripe refused this request.', 'refused')),
      },
    })
    await expect(buyTopUp(away, ordered('page'), { actor: 'test', requestId: 'req' })).rejects.toThrow('refused')
    expect(await buy({ top_up: 'small', idempotency_key: 'lost', pay_with: 'page' })).toMatchObject({
      status: 202,
      body: { url: expect.any(String) },
    })
    expect(charges()).toEqual([])
  })

  test('that the catalog does not sell is refused, and so is another’s organization', async () => {
    expect(await buy({ top_up: 'none' })).toMatchObject({ status: 400, body: { code: 'invalid_request', field: 'top_up' } })
    expect(await buy({ top_up: 'small', organization_id: 'org_x' })).toMatchObject({ status: 404 })
    expect((await billing.call(`${organization}:read`, 'POST', PATH, { top_up: 'small' })).status).toBe(403)
    expect(await purchases()).toEqual([])
  })

  test('that was refunded takes back its share as far as it is not used, and tells the rest', async () => {
    await saveCard()
    await buy({ top_up: 'small' })
    expect(await use(400)).toBe(true)
    await refund(300)
    await vi.waitFor(async () => expect(await topUps()).toEqual([['500', '300', '150']]), PATIENCE)
    await refund(700)
    await vi.waitFor(async () => expect(await topUps()).toEqual([['500', '300', '200']]), PATIENCE)
    expect(await purchases()).toMatchObject([{ refunded_minor: 1_000, taken_back: 200, not_taken_back: 300 }])
    expect(await use(1)).toBe(false)
  })

  test('that was refunded while a part was held: what the hold lets go of is taken back too, and no more than that', async () => {
    await saveCard()
    await buy({ top_up: 'small' })
    expect(await use(100)).toBe(true)
    const held = {
      organizationId: organization,
      meter: 'tokens',
      quantity: 400_000_000n,
      idempotencyKey: 'hold',
      properties: null,
    }
    const { reservation } = await metering.ask({ verb: 'reserve', ...held, ttlMs: 600_000 })
    await refund(1_000)
    await vi.waitFor(async () => expect(await topUps()).toEqual([['500', '0', '100']]), PATIENCE)
    expect(await takeBackReleased(billing.context)).toBe(0)
    const settled = { organizationId: organization, reservationId: reservation!.id, quantity: 150_000_000n }
    await metering.ask({ verb: 'settle', ...settled })
    expect(await takeBackReleased(billing.context)).toBe(1)
    expect(await topUps()).toEqual([['500', '150', '350']])
    expect(await purchases()).toMatchObject([{ taken_back: 350, not_taken_back: 150 }])
    expect(await takeBackReleased(billing.context)).toBe(0)
    expect(await use(1)).toBe(false)
  })

  test('that is disputed is taken back whole', async () => {
    await saveCard('pm_card_createDispute')
    await buy({ top_up: 'small' })
    await vi.waitFor(async () => expect(await topUps()).toEqual([['500', '0', '500']]), PATIENCE)
    expect(await purchases()).toMatchObject([{ status: 'paid', disputed: true, not_taken_back: 0 }])
  })
})

describe('buying by itself', () => {
  const set = (body: Record<string, unknown>) =>
    billing.call(organization, 'PUT', '/api/v1/billing/auto-top-up', { top_up: 'small', below: 50, ...body })
  const run = () => runAutoTopUps(billing.context)
  /** As if what waits had waited long enough. */
  const again = () => billing.database.db.query('update auto_top_up_requests set looked_at = null, wait_until = null')

  test('happens when a use brings the balance under its mark, and not before', async () => {
    await saveCard()
    expect(await set({})).toMatchObject({ status: 200, body: { balance: 'tokens', below: 50, most_per_month: 3, stopped: null } })
    await run()
    expect(await use(50)).toBe(true)
    expect(await run()).toBe(0)
    expect(await use(1)).toBe(true)
    expect(await run()).toBe(1)
    expect(await topUps()).toEqual([['500', '0', '0']])
    expect(await purchases()).toMatchObject([{ automatic: true, status: 'paid' }])
    // It looks once more, sees enough, and rests.
    expect([await run(), await run()]).toEqual([1, 0])
    expect(await topUps()).toHaveLength(1)
  })

  test('is set for two balances at the same moment', async () => {
    await set({})
    const { db } = billing.database
    const both = await db.transaction(async (tx) => {
      await lockAccount(tx, organization)
      const settings = [set({ below: 60 }), set({ top_up: 'pages', below: 5 })]
      const waits = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
      await vi.waitFor(async () => expect((await db.query(waits)).rowCount).toBe(2), PATIENCE)
      return { settings }
    })
    await Promise.all(both.settings)
    const { rows } = await db.query('select low_marks as marks from accounts where organization_id = $1', [organization])
    expect(rows).toEqual([{ marks: { tokens: '60000000', pages: '5000000' } }])
  })

  test('happens again as soon as a use brings the balance under its mark again, in the same moment if need be', async () => {
    await saveCard()
    await set({})
    await use(80)
    await run()
    await use(500)
    await run()
    expect(await topUps()).toHaveLength(2)
    // Twice what a package grants is missing: two are bought, one after the other.
    await billing.call(organization, 'PUT', '/api/v1/billing/auto-top-up', { top_up: 'small', below: 1_200, most_per_month: 9 })
    expect([await run(), await run(), await run(), await run()]).toEqual([1, 1, 1, 0])
    expect(await topUps()).toHaveLength(4)
  })

  test('looks at what has to wait only after a while, however much is used', async () => {
    await saveCard()
    await set({ most_per_month: 1 })
    await use(80)
    await run()
    await use(500)
    expect(await run()).toBe(1)
    await use(1)
    expect(await run()).toBe(0)
    const { rows } = await billing.database.db.query<{ seconds: number }>(
      `select extract(epoch from wait_until - $1)::int as seconds from auto_top_up_requests where organization_id = $2`,
      [billing.context.clock.now(), organization],
    )
    expect(rows[0]!.seconds).toBeGreaterThan(50)
    expect(await topUps()).toHaveLength(1)
  })

  test('does not pay twice when it is not known what came of a payment', async () => {
    await saveCard()
    await set({})
    await use(80)
    await runAutoTopUps(losing('create_payment'))
    expect(charges()).toHaveLength(1)
    await use(1)
    expect(await run()).toBe(0)
    await again()
    await run()
    expect(await topUps()).toEqual([['500', '0', '0']])
    expect(await purchases()).toMatchObject([{ status: 'paid' }])
  })

  test('happens once at a time, however many servers look, and at most so often in a month', async () => {
    await saveCard()
    await set({ most_per_month: 2 })
    await use(80)
    await Promise.all([run(), run(), run()])
    expect(await topUps()).toHaveLength(1)
    await use(500)
    await again()
    await run()
    expect(await topUps()).toHaveLength(2)
    await use(500)
    await again()
    await run()
    expect(await topUps()).toHaveLength(2)
    expect(await use(21)).toBe(false)
  })

  test('stops after a declined card, tells so, and goes on with another card', async () => {
    await saveCard('pm_card_chargeCustomerFail')
    await set({ most_per_month: 1 })
    await use(80)
    await run()
    await again()
    await run()
    expect(await purchases()).toMatchObject([{ status: 'failed', automatic: true }])
    const { body } = await billing.call(organization, 'GET', PATH)
    expect(body['automatic']).toMatchObject([{ stopped: { code: 'payment_failed' } }])
    const { rows } = await billing.database.db.query(
      `select type, data->>'balance_name' as name from events where organization_id = $1 and type in ('auto_top_up.stopped', 'usage.balance_low') order by type`,
      [organization],
    )
    expect(rows.map(({ type }) => type)).toEqual(['auto_top_up.stopped', 'usage.balance_low'])
    expect(rows.map(({ name }) => name)).toEqual(['Tokens of text', 'Tokens of text'])
    await saveCard()
    const restarted = await billing.call(organization, 'GET', PATH)
    expect(restarted.body['automatic']).toMatchObject([{ stopped: null }])
    await again()
    await run()
    expect(await topUps()).toEqual([['500', '0', '0']])
  })

  test('is not forgotten when a use brings the balance under its mark while enough was seen of it', async () => {
    await saveCard()
    await set({})
    const now = billing.context.clock.now()
    const [request] = await takeRequests(billing.database.db, { now, abandonedBefore: now, limit: 10 })
    await use(80)
    await deleteRequest(billing.database.db, request!)
    await run()
    expect(await topUps()).toEqual([['500', '0', '0']])
  })

  test('ends when it is removed', async () => {
    await saveCard()
    await set({})
    expect((await billing.call(organization, 'DELETE', '/api/v1/billing/auto-top-up/tokens')).status).toBe(204)
    expect((await billing.call(organization, 'DELETE', '/api/v1/billing/auto-top-up/tokens')).status).toBe(404)
    await use(80)
    await run()
    expect(await purchases()).toEqual([])
  })
})
