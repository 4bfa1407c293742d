import { expect, test, vi } from 'vitest'
import { PATIENCE } from '../../test/patience.ts'
import { debitAnsweredAfterSeconds } from '../../../sandbox/src/payments/inferred.ts'
import { testTopUps, TOP_UPS } from '../../test/top-ups.ts'
import { formatQuantity } from '../lib/quantity.ts'
import { ORGANIZATION_METADATA, readOrganization } from '../stripe/organizations.ts'
import { runAutoTopUps } from './auto.ts'
import { TOP_UP_METADATA } from './store.ts'

// The bank of one of Stripe's test accounts answers a debit after minutes.

const { billing, buyer, charges, purchases, grants } = testTopUps()

async function save(method: string): Promise<void> {
  const answer = await billing.call(buyer.id, 'POST', '/api/v1/billing/payment-methods', { payment_method_id: method })
  expect(answer.status, JSON.stringify(answer.body)).toBe(200)
}

const buy = () => billing.call(buyer.id, 'POST', TOP_UPS, { top_up: 'small', idempotency_key: 'once' })
const overview = async () => (await billing.call(buyer.id, 'GET', TOP_UPS)).body

const granted = async () => (await grants()).map(({ amount }) => formatQuantity(amount ?? 0n))
const bankAnswers = () => billing.sandbox.advanceTo(charges().at(-1)!.created + debitAnsweredAfterSeconds)

test('a package that is paid by debit is granted when the bank has paid, and not before', async () => {
  await save('pm_usBankAccount_success')
  expect(await buy()).toMatchObject({ status: 202, body: { status: 'pending', url: null, grant_id: null } })
  // What the webhooks of a debit under way tell changes nothing, nor does asking again.
  expect(await buy()).toMatchObject({ status: 202, body: { status: 'pending' } })
  expect([await granted(), charges().map(({ status }) => status)]).toEqual([[], ['pending']])
  bankAnswers()
  await vi.waitFor(async () => expect(await granted()).toEqual(['500']), PATIENCE)
  expect(await purchases()).toMatchObject([{ status: 'paid', failure_code: null }])
})

test('a package whose debit the bank refuses has failed then, and is not granted', async () => {
  await save('pm_usBankAccount_insufficientFunds')
  expect((await buy()).status).toBe(202)
  bankAnswers()
  await vi.waitFor(
    async () => expect(await purchases()).toMatchObject([{ status: 'failed', failure_code: 'payment_failed' }]),
    PATIENCE,
  )
  expect(await granted()).toEqual([])
  expect(await buy()).toMatchObject({ status: 402, body: { code: 'payment_failed' } })
  expect(charges()).toHaveLength(1)
})

test('a package whose debit was refused before it was ever seen under way has failed all the same', async () => {
  await save('pm_usBankAccount_noAccount')
  expect((await buy()).status).toBe(202)
  await billing.database.db.query('delete from stripe_charges where organization_id = $1', [buyer.id])
  bankAnswers()
  await vi.waitFor(async () => expect(await purchases()).toMatchObject([{ status: 'failed' }]), PATIENCE)
})

test('a package that is paid by debit on a page has failed when the bank refuses; a card that is declined there is not its end', async () => {
  await save('pm_card_visa')
  const { body } = await billing.call(buyer.id, 'POST', TOP_UPS, { top_up: 'small', pay_with: 'page' })
  const { customerId } = await readOrganization(billing.database.db, buyer.id)
  // As the page does, of which the sandbox has one for cards.
  const pay = (payment_method: string) =>
    billing.stripe.paymentIntents.create({
      amount: 1_000,
      currency: 'usd',
      customer: customerId!,
      payment_method,
      confirm: true,
      off_session: true,
      metadata: { [ORGANIZATION_METADATA]: buyer.id, [TOP_UP_METADATA]: body['id'] as string },
    })
  const mirrored = async (): Promise<unknown[]> => {
    const sql = 'select status from stripe_charges where organization_id = $1 order by created_at, id'
    return (await billing.database.db.query<{ status: string }>(sql, [buyer.id])).rows.map(({ status }) => status)
  }
  await expect(pay('pm_card_chargeCustomerFail')).rejects.toMatchObject({ statusCode: 402 })
  await vi.waitFor(async () => expect(await mirrored()).toEqual(['failed']), PATIENCE)
  expect(await purchases()).toMatchObject([{ status: 'pending' }])

  await pay('pm_usBankAccount_accountClosed')
  await vi.waitFor(async () => expect(await mirrored()).toContain('pending'), PATIENCE)
  expect(await purchases()).toMatchObject([{ status: 'pending' }])
  bankAnswers()
  await vi.waitFor(async () => expect(await purchases()).toMatchObject([{ status: 'failed' }]), PATIENCE)
  expect(await granted()).toEqual([])
})

const set = () => billing.call(buyer.id, 'PUT', '/api/v1/billing/auto-top-up', { top_up: 'small', below: 150 })
const run = () => runAutoTopUps(billing.context)
/** As if what waits had waited long enough. */
const again = () => billing.database.db.query('update auto_top_up_requests set looked_at = null, wait_until = null')

/** In how many seconds what waits is looked at again; null when nothing does. */
async function waits(): Promise<number | null> {
  const { rows } = await billing.database.db.query<{ seconds: number }>(
    `select extract(epoch from wait_until - $1)::int as seconds from auto_top_up_requests where organization_id = $2`,
    [billing.context.clock.now(), buyer.id],
  )
  return rows[0]?.seconds ?? null
}

test('buying by itself waits for a debit that is under way, and buys nothing beside it', async () => {
  await save('pm_usBankAccount_success')
  await set()
  await run()
  await again()
  expect(await run()).toBe(1)
  expect(await waits()).toBeGreaterThan(50)
  expect(await purchases()).toMatchObject([{ status: 'pending', automatic: true }])
  bankAnswers()
  await vi.waitFor(async () => expect(await granted()).toEqual(['500']), PATIENCE)
  await again()
  await run()
  expect([await waits(), charges().length]).toEqual([null, 1])
})

test('buying by itself stops when the bank refuses, tells so, and goes on with another method', async () => {
  await save('pm_usBankAccount_debitNotAuthorized')
  await set()
  await run()
  bankAnswers()
  await vi.waitFor(async () => expect(await purchases()).toMatchObject([{ status: 'failed', automatic: true }]), PATIENCE)
  expect((await overview())['automatic']).toMatchObject([{ stopped: { code: 'payment_failed' } }])
  const { rows } = await billing.database.db.query(
    `select data->>'code' as code, data->>'balance_name' as name from events
     where organization_id = $1 and type = 'auto_top_up.stopped'`,
    [buyer.id],
  )
  expect(rows).toEqual([{ code: 'payment_failed', name: 'tokens' }])
  await again()
  await run()
  expect(charges()).toHaveLength(1)

  await save('pm_card_visa')
  await again()
  await run()
  expect(await granted()).toEqual(['500'])
})

test('a debit that is refused does not stop what has another method by then', async () => {
  await save('pm_usBankAccount_debitNotAuthorized')
  await set()
  await run()
  await save('pm_card_visa')
  bankAnswers()
  await vi.waitFor(async () => expect(await purchases()).toMatchObject([{ status: 'failed' }]), PATIENCE)
  expect((await overview())['automatic']).toMatchObject([{ stopped: null }])
  await again()
  await run()
  expect(await granted()).toEqual(['500'])
})
