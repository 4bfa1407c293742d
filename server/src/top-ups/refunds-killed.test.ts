import { afterEach, expect, test, vi } from 'vitest'
import { PATIENCE } from '../../test/patience.ts'
import { failing, KILLED } from '../../test/failing.ts'
import { makeRoom, refuseWrites } from '../../test/full-disk.ts'
import { TOP_UPS, testTopUps } from '../../test/top-ups.ts'
import { formatQuantity } from '../lib/quantity.ts'
import { withOrganizationLock } from '../stripe/intents/lock.ts'
import { RECENT_SCOPE } from '../stripe/mirror/fetch.ts'
import { syncOrganization } from '../stripe/mirror/sync.ts'
import { buyTopUp } from './actions.ts'

const { billing, buyer, charges, purchases, grants } = testTopUps()
const { db } = billing.database

afterEach(() => makeRoom(db))

const buy = (key: string) => billing.call(buyer.id, 'POST', TOP_UPS, { top_up: 'small', idempotency_key: key })
const saveCard = () => billing.succeed(buyer.id, 'payment-methods', { payment_method_id: 'pm_card_visa' })
const refund = (amount: number) => billing.stripe.refunds.create({ charge: charges()[0]!.id, amount })

/** What was given, and what of it was taken back. */
const given = async () => (await grants()).map(({ amount, revoked }) => [amount ?? 0n, revoked].map(formatQuantity))

/** As a webhook does, and whoever else looks. */
const follow = () =>
  withOrganizationLock(billing.context, buyer.id, (session) =>
    syncOrganization(billing.context, session, buyer.id, { scope: RECENT_SCOPE, priority: 'interactive' }),
  )

test('a package that is refunded before its buyer was answered, as the server was killed, is taken back, and its repeat says so', async () => {
  await saveCard()
  const dying = failing(billing.context, 'after', 'create_payment', KILLED)
  const order = { organizationId: buyer.id, topUpKey: 'small', quantity: 1, idempotencyKey: 'killed', payWith: 'saved' as const }
  const pages = { successUrl: undefined, cancelUrl: undefined }
  await expect(buyTopUp(dying, { ...order, ...pages }, { actor: 'test', requestId: 'req' })).rejects.toThrow('killed')
  await refund(1_000)
  await vi.waitFor(async () => expect(await given()).toEqual([['500', '500']]), PATIENCE)
  for (let round = 0; round < 2; round += 1) {
    expect(await buy('killed')).toMatchObject({ body: { status: 'paid', refunded_minor: 1_000, taken_back: 500 } })
  }
  expect(charges()).toHaveLength(1)
  expect(await given()).toEqual([['500', '500']])
})

test('a refund is taken back once, whoever is killed over it and however many follow it at once', async () => {
  await saveCard()
  expect((await buy('refunded')).status).toBe(201)
  // The grant is written before the purchase: what is lost between them is lost whole.
  await refuseWrites(db, 'top_up_purchases')
  await refund(300)
  await expect(follow()).rejects.toMatchObject({ code: 'database_unavailable' })
  expect(await given()).toEqual([['500', '0']])
  await makeRoom(db)
  await Promise.all([follow(), follow(), follow()])
  expect(await given()).toEqual([['500', '150']])
  expect(await purchases()).toMatchObject([{ refunded_minor: 300, taken_back: 150 }])
})
