import { describe, expect, test, vi } from 'vitest'
import { PATIENCE } from '../../test/patience.ts'
import { testTopUps, TOP_UPS } from '../../test/top-ups.ts'
import { formatQuantity } from '../lib/quantity.ts'
import type { StripeReads } from '../stripe/gateway/gateway.ts'
import { reconcileOrganization } from '../stripe/reconcile/reconcile.ts'
import { listReleased } from './store.ts'

const { billing, buyer, charges, purchases, grants } = testTopUps()

/** Buys the package with a card, with which its holder will do something. */
async function buyWith(card: string): Promise<void> {
  await billing.call(buyer.id, 'POST', '/api/v1/billing/payment-methods', { payment_method_id: card })
  expect((await billing.call(buyer.id, 'POST', TOP_UPS, { top_up: 'small' })).status).toBe(201)
}

/** Amount and what was revoked of the buyer's top-ups. */
const topUps = async () => (await grants()).map(({ amount, revoked }) => [amount ?? 0n, revoked].map(formatQuantity))

describe('a top-up whose payment is disputed', () => {
  /** Ends the dispute, by evidence that a test account's bank decides on, while no webhook tells of it. */
  async function submit(evidence: string): Promise<void> {
    billing.sandbox.setChaos({ deliveries: { drop: 1 } })
    const [dispute] = billing.sandbox.all('dispute').filter(({ charge }) => charge === charges()[0]!.id)
    await billing.stripe.disputes.update(dispute!.id, { evidence: { uncategorized_text: evidence }, submit: true })
    billing.sandbox.setChaos({})
  }

  /** Looks again, at a Stripe whose charges once disputed stay `disputed`. */
  async function lookAgain(): Promise<void> {
    const gateway = billing.context.gateway!
    const disputedForGood = (reads: StripeReads): StripeReads => ({
      ...reads,
      listCharges: async (...asked) => (await reads.listCharges(...asked)).map((charge) => ({ ...charge, disputed: true })),
    })
    const reads = { reads: disputedForGood(gateway.reads), backgroundReads: disputedForGood(gateway.backgroundReads) }
    const context = billing.with({ gateway: { ...gateway, ...reads } })
    // Nothing is looked at while webhooks of the organization are being handled.
    await vi.waitFor(async () => expect(await reconcileOrganization(context, buyer.id)).not.toBeNull(), PATIENCE)
  }

  test('is given back when the dispute is won, whatever the charge goes on to say', async () => {
    await buyWith('pm_card_createDispute')
    await vi.waitFor(async () => expect(await topUps()).toEqual([['500', '500']]), PATIENCE)
    await submit('winning_evidence')
    await lookAgain()
    expect(await topUps()).toEqual([['500', '0']])
    expect(await purchases()).toMatchObject([{ status: 'paid', disputed: false, taken_back: 0 }])
  })

  test('stays taken when it is lost', async () => {
    await buyWith('pm_card_createDispute')
    await vi.waitFor(async () => expect(await topUps()).toEqual([['500', '500']]), PATIENCE)
    await submit('losing_evidence')
    await lookAgain()
    expect(await topUps()).toEqual([['500', '500']])
    expect(await purchases()).toMatchObject([{ disputed: true, taken_back: 500 }])
  })

  test('stays as it is while a bank only inquires: that takes no money', async () => {
    await buyWith('pm_card_createDisputeInquiry')
    await vi.waitFor(
      () => expect(billing.sandbox.all('dispute').some(({ charge }) => charge === charges()[0]!.id)).toBe(true),
      PATIENCE,
    )
    await lookAgain()
    expect(await topUps()).toEqual([['500', '0']])
    expect(await purchases()).toMatchObject([{ status: 'paid', disputed: false, taken_back: 0 }])
  })
})

test('three that keep failing do not stand before everybody else: who is looked at first changes', async () => {
  const waiting: string[] = []
  for (let made = 0; made < 4; made += 1) {
    buyer.id = await billing.createOrganization(`released_${made}`)
    waiting.push(buyer.id)
    await buyWith('pm_card_visa')
  }
  // As a refund leaves it all of which was held; the hold has let go since.
  await billing.database.db.query(`update top_up_purchases set refunded_minor = 1000 where organization_id = any($1)`, [waiting])
  const first = new Set<string | undefined>()
  for (let look = 0; look < 60; look += 1) first.add((await listReleased(billing.database.db, billing.context.clock.now(), 1))[0])
  expect(first).toEqual(new Set(waiting))
})

test('a top-up whose refund the bank sends back is given back: the customer has nothing of it', async () => {
  await buyWith('pm_card_refundFail')
  await billing.stripe.refunds.create({ charge: charges()[0]!.id })
  await vi.waitFor(async () => expect(await topUps()).toEqual([['500', '500']]), PATIENCE)
  // A card of tests takes a refund, and sends it back a minute later.
  billing.sandbox.advanceTo(Math.floor(Date.now() / 1000) + 120)
  await vi.waitFor(async () => expect(await topUps()).toEqual([['500', '0']]), PATIENCE)
  expect(await purchases()).toMatchObject([{ status: 'paid', refunded_minor: 0, taken_back: 0 }])
})
