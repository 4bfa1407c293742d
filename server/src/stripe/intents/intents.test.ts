import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { once } from 'node:events'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { failing, KILLED } from '../../../test/failing.ts'
import { buyPro, changeByOperator, switchTo } from '../../../test/purchases.ts'
import { testSubscriptions } from '../../../test/subscriptions.ts'
import { listInvoices } from '../../invoices/store.ts'
import { HOUR_MS, MINUTE_MS } from '../../lib/period.ts'
import { readSubscription } from '../../subscriptions/views.ts'
import type { BillingContext } from '../context.ts'
import { requireGateway } from '../context.ts'
import { createStripeClient } from '../gateway/client.ts'
import { toStripeCallError } from '../gateway/errors.ts'
import type { MutationKind } from '../gateway/mutations.ts'
import { ensureCustomer } from './customers.ts'
import { finishPendingIntents, finishStrandedIntents } from './finish-intents.ts'
import { performIntent } from './intents.ts'
import { withOrganizationLock } from './lock.ts'

const billing = testSubscriptions({ webhooks: false })
const buyWith = (context: BillingContext, organizationId: string, paymentMethodId: string) =>
  buyPro(context, { organizationId, paymentMethodId })

type IntentRow = { kind: string; state: string; attempts: number; error_code: string | null; result: unknown }

async function intentsOf(organizationId: string): Promise<IntentRow[]> {
  const { rows } = await billing.database.db.query<IntentRow>(
    `select kind, state, attempts, error_code, result from stripe_intents where organization_id = $1 order by created_at, id`,
    [organizationId],
  )
  return rows
}

const customersOf = (organizationId: string) =>
  billing.sandbox.all('customer').filter(({ metadata }) => metadata['tollgate_organization'] === organizationId)

const ensure = (context: BillingContext, id: string) =>
  withOrganizationLock(context, id, (session) => ensureCustomer(context, session, id))

const finish = (context: BillingContext, id: string) =>
  withOrganizationLock(context, id, (session) => finishPendingIntents(context, session, id))

/** A context whose process dies after the answer of Stripe has come and before it is written down. */
const dyingAfter = (which: MutationKind | number) => failing(billing.context, 'after', which, KILLED)
const dying = () => failing(billing.context, 'after', () => true, KILLED)

describe('a change at Stripe', () => {
  test('is stored before it is made, and its result after', async () => {
    await billing.createOrganization('plain')
    const customerId = await ensure(billing.context, 'plain')
    expect(await intentsOf('plain')).toEqual([
      {
        kind: 'create_customer',
        state: 'succeeded',
        attempts: 1,
        error_code: null,
        result: expect.objectContaining({ id: customerId }) as object,
      },
    ])
  })

  test('whose process is killed before the result was written is found again, and made once', async () => {
    await billing.createOrganization('killed')
    await expect(ensure(dying(), 'killed')).rejects.toThrow('killed')
    expect(await intentsOf('killed')).toMatchObject([{ state: 'pending' }])
    const [finished] = await finish(billing.context, 'killed')
    expect(customersOf('killed').map(({ id }) => id)).toEqual([finished!.result.id])
    expect(await ensure(billing.context, 'killed')).toBe(finished!.result.id)
    expect(customersOf('killed')).toHaveLength(1)
  })

  test('whose key Stripe may have forgotten is looked for instead of repeated', async () => {
    await billing.createOrganization('old')
    await expect(ensure(dying(), 'old')).rejects.toThrow('killed')
    const [finished] = await finish(billing.later(25 * HOUR_MS), 'old')
    expect(customersOf('old').map(({ id }) => id)).toEqual([finished!.result.id])
  })

  test('that never arrived and is a day old is left at that', async () => {
    await billing.createOrganization('never')
    const dead = failing(billing.context, 'before', () => true, KILLED)
    await expect(ensure(dead, 'never')).rejects.toThrow('killed')
    expect(await finish(billing.later(25 * HOUR_MS), 'never')).toEqual([])
    expect(await intentsOf('never')).toMatchObject([{ state: 'abandoned' }])
    expect(customersOf('never')).toEqual([])
  })

  test('that nobody comes back for is finished by the housekeeping', async () => {
    await billing.createOrganization('stranded')
    await expect(ensure(dying(), 'stranded')).rejects.toThrow('killed')
    await finishStrandedIntents(billing.later(2 * MINUTE_MS))
    expect(await intentsOf('stranded')).toMatchObject([{ state: 'succeeded' }])
    const { rows } = await billing.database.db.query(`select stripe_customer_id from organizations where id = 'stranded'`)
    expect(rows).toEqual([{ stripe_customer_id: customersOf('stranded')[0]!.id }])
  })

  test('that Stripe refuses has failed, and is not tried again', async () => {
    await billing.createOrganization('refused')
    const params = { customerId: 'cus_nobody', paymentMethodId: 'pm_nothing' }
    const attach = performIntent(billing.context, billing.database.db, {
      organizationId: 'refused',
      kind: 'attach_payment_method',
      params,
    })
    await expect(attach).rejects.toMatchObject({ outcome: 'refused' })
    expect(await intentsOf('refused')).toMatchObject([{ state: 'failed', attempts: 1 }])
    expect(await finish(billing.context, 'refused')).toEqual([])
  })
})

describe('a purchase', () => {
  const buy = (context: BillingContext, organizationId: string) => buyPro(context, { organizationId })
  const subscriptionsOf = (organizationId: string) =>
    billing.sandbox.all('subscription').filter(({ metadata }) => metadata['tollgate_organization'] === organizationId)

  test('whose answer is lost is answered when it is asked for again, and charged once', async () => {
    await billing.createOrganization('lost')
    billing.sandbox.setChaos({ api: [{ route: 'POST /v1/subscriptions', lostResponse: 1 }] })
    await expect(buy(billing.context, 'lost')).rejects.toMatchObject({ code: 'stripe_unavailable' })
    billing.sandbox.setChaos({})
    await buy(billing.context, 'lost')
    expect(subscriptionsOf('lost')).toHaveLength(1)
    const { rows } = await billing.database.db.query(
      `select plan_key, subscription_status from accounts where organization_id = 'lost'`,
    )
    expect(rows).toEqual([{ plan_key: 'pro', subscription_status: 'active' }])
  })

  test('whose process is killed at any call is charged once when it is asked for again', async () => {
    for (let killedAt = 1; killedAt <= 4; killedAt += 1) {
      const id = `kill_${killedAt}`
      await billing.createOrganization(id)
      await expect(buy(dyingAfter(killedAt), id)).rejects.toThrow('killed')
      await buy(billing.context, id)
      expect(subscriptionsOf(id)).toHaveLength(1)
      expect(customersOf(id)).toHaveLength(1)
    }
  })
})

describe('a purchase that takes the place of one that waits for the bank', () => {
  const payable = (organizationId: string) =>
    billing.sandbox
      .all('subscription')
      .filter(({ customer, status }) => customer === customersOf(organizationId)[0]!.id && status !== 'incomplete_expired')
      .map(({ status }) => status)

  test.each([
    { killed: 'between the two', method: 'pm_card_visa', left: ['active'] },
    { killed: 'and waits itself', method: 'pm_card_authenticationRequired', left: ['incomplete'] },
  ])('ends that one although the server is killed $killed, when nobody comes back', async ({ method, left }) => {
    const id = await billing.createOrganization(`replacing_${left[0]}`)
    await buyWith(billing.context, id, 'pm_card_authenticationRequired')
    await expect(buyWith(dyingAfter('create_subscription'), id, method)).rejects.toThrow('killed')
    await finishStrandedIntents(billing.later(3 * MINUTE_MS))
    expect(payable(id)).toEqual(left)
  })

  test('leaves that one when the card declines', async () => {
    const id = await billing.createOrganization('kept')
    await buyWith(billing.context, id, 'pm_card_authenticationRequired')
    await expect(buyWith(billing.context, id, 'pm_card_chargeDeclined')).rejects.toMatchObject({ code: 'payment_failed' })
    await finishStrandedIntents(billing.later(3 * MINUTE_MS))
    expect(payable(id)).toEqual(['incomplete'])
  })
})

describe('while Stripe is away', () => {
  let server: Server
  let away: BillingContext

  beforeAll(async () => {
    // A port on which nobody listens any more.
    server = createServer()
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    server.close()
    const endpoint = { host: '127.0.0.1', port, protocol: 'http' as const }
    away = billing.with({ gateway: createStripeClient({ apiKey: 'sk_test_x', endpoint, log: billing.context.log }) })
  })
  afterAll(() => server.close())

  test('a change is refused with 503 and a time to come back, and nothing is lost', async () => {
    await billing.createOrganization('patient')
    await expect(ensure(away, 'patient')).rejects.toMatchObject({ code: 'stripe_unavailable', details: { retry_after: 5 } })
    expect(await intentsOf('patient')).toMatchObject([{ state: 'pending', attempts: 1 }])
    const customerId = (await finish(billing.context, 'patient'))[0]!.result.id
    expect(customersOf('patient').map(({ id }) => id)).toEqual([customerId])
  })

  test('every read goes on, from the mirror', async () => {
    await billing.createOrganization('reading')
    await buyPro(billing.context, { organizationId: 'reading' })
    expect(await readSubscription(away, away.db, 'reading')).toMatchObject({ tier: 'PRO', standing: { may_use: true } })
    expect(await listInvoices(away.db, { organizationId: 'reading', status: null, limit: 10, before: null })).toMatchObject([
      { status: 'paid' },
    ])
    const upgrade = switchTo('enterprise', null)
    await expect(changeByOperator(away, 'reading', upgrade)).rejects.toMatchObject({ code: 'stripe_unavailable' })
    // Back again, the wish that was left open is settled first, and asking again is answered.
    await changeByOperator(billing.context, 'reading', upgrade)
    expect(await readSubscription(billing.context, billing.context.db, 'reading')).toMatchObject({ tier: 'ENTERPRISE' })
  })

  test('OC-10 without any Stripe key, reads answer the default plan and empty lists', async () => {
    await billing.createOrganization('keyless')
    const none = billing.with({ gateway: null })
    expect(await readSubscription(none, none.db, 'keyless')).toMatchObject({ tier: 'FREE', status: 'none', amount: 0 })
    const change = changeByOperator(none, 'keyless', { kind: 'cancel', immediate: true })
    await expect(change).rejects.toMatchObject({ code: 'billing_not_configured' })
  })
})

test('a call that a newer version of the server words otherwise is not made twice', async () => {
  const id = await billing.createOrganization('reworded')
  await expect(ensure(dying(), id)).rejects.toThrow('killed')
  const gateway = requireGateway(billing.context)
  const newer = billing.with({
    gateway: {
      ...gateway,
      perform: (kind, params, call) =>
        gateway.perform(
          kind,
          'metadata' in params ? { ...params, metadata: { ...params.metadata, version: '2' } } : params,
          call,
        ),
    },
  })
  expect(await finish(newer, id)).toHaveLength(1)
  await ensure(newer, id)
  expect(customersOf(id)).toHaveLength(1)
})

describe('while Stripe throttles', () => {
  function throttling(kindRefused: MutationKind): BillingContext {
    const gateway = requireGateway(billing.context)
    return billing.with({
      gateway: {
        ...gateway,
        perform: (kind, params, call) =>
          kind === kindRefused
            ? Promise.reject(toStripeCallError({ call: kind, type: 'StripeRateLimitError', statusCode: 429 }))
            : gateway.perform(kind, params, call),
      },
    })
  }

  test('a page that could not be closed is not taken for paid: nothing is bought beside it', async () => {
    const id = await billing.createOrganization('page')
    await billing.call(id, 'POST', '/api/v1/billing/checkout', { plan: 'pro' })
    await expect(buyWith(throttling('expire_checkout_session'), id, 'pm_card_visa')).rejects.toMatchObject({
      code: 'stripe_unavailable',
    })
    const [customer] = customersOf(id)
    expect(billing.sandbox.all('subscription').filter((one) => one.customer === customer!.id)).toEqual([])
    await buyWith(billing.context, id, 'pm_card_visa')
    expect(billing.sandbox.all('subscription').filter((one) => one.customer === customer!.id)).toMatchObject([
      { status: 'active' },
    ])
  })

  test('a repeat says nothing of the attempt before it: who was made a customer is not made one twice', async () => {
    const id = await billing.createOrganization('later')
    await expect(buyWith(dyingAfter('create_customer'), id, 'pm_card_visa')).rejects.toThrow('killed')
    await expect(buyWith(throttling('create_customer'), id, 'pm_card_visa')).rejects.toMatchObject({ code: 'stripe_unavailable' })
    expect(await intentsOf(id)).toMatchObject([{ kind: 'create_customer', state: 'pending' }])
    await buyWith(billing.context, id, 'pm_card_visa')
    expect(customersOf(id)).toHaveLength(1)
  })

  test('what waits for the bank, and could not be called off, is not said to be settled', async () => {
    const id = await billing.createOrganization('waits')
    await buyWith(billing.context, id, 'pm_card_authenticationRequired').catch(() => undefined)
    await expect(buyWith(throttling('void_invoice'), id, 'pm_card_visa')).rejects.toMatchObject({ code: 'stripe_unavailable' })
  })
})
