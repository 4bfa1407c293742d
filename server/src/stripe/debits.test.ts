import { Stripe } from 'stripe'
import { beforeAll, describe, expect, test } from 'vitest'
import { testBilling } from '../../test/billing.ts'
import { DAY_MS } from '../lib/period.ts'
import type { BillingContext } from './context.ts'
import { RECENT_SCOPE, type SyncScope } from './fetch.ts'
import type { StripeReads } from './gateway.ts'
import { withOrganizationLock } from './lock.ts'
import type { ChargeSnapshot } from './payment-snapshots.ts'
import { pushCatalog } from './push.ts'
import { syncOrganization } from './sync.ts'

// A debit of a bank account is under way for days: its invoice stays open and tried, its charge is pending until the bank has answered.
// The sandbox has cards only: what it says of a card that is declined is told here as of such a debit.

// Without webhooks, so that nothing is heard of a debit but what is told here.
const billing = testBilling({ webhooks: false })
let stripe: Stripe

beforeAll(async () => {
  await pushCatalog(billing.context, { variables: {} })
  const { host, port, protocol } = billing.sandbox
  stripe = new Stripe('sk_test_tollgate', { host, port, protocol, telemetry: false })
})

/** An organization whose second invoice is paid by debit; answers that invoice. */
async function debited(id: string): Promise<string> {
  await billing.createOrganization(id)
  const path = '/api/v1/billing/subscribe'
  const { body } = await billing.call(id, 'POST', path, { tier: 'pro', payment_method_id: 'pm_card_visa' })
  const subscription = await stripe.subscriptions.retrieve(body['subscription_id'] as string)
  const customer = subscription.customer as string
  const { id: account } = await stripe.paymentMethods.attach('pm_card_chargeCustomerFail', { customer })
  const terms = { customer, subscription: subscription.id, default_payment_method: account, auto_advance: false }
  const invoice = await stripe.invoices.create(terms)
  await stripe.invoiceItems.create({ customer, invoice: invoice.id, amount: 4_000, currency: 'usd' })
  await expect(stripe.invoices.pay(invoice.id)).rejects.toMatchObject({ statusCode: 402 })
  return invoice.id
}

/** Looks at Stripe, `days` from now, where debits are `status`. */
async function look(id: string, status: 'pending' | 'failed', days: number, scope: SyncScope = RECENT_SCOPE): Promise<void> {
  const asDebit = (charge: ChargeSnapshot) => (charge.status === 'failed' ? { ...charge, status } : charge)
  const debiting = (reads: StripeReads): StripeReads => ({
    ...reads,
    listCharges: async (...asked) => (await reads.listCharges(...asked)).map(asDebit),
  })
  const gateway = billing.context.gateway!
  const now = () => new Date(billing.context.clock.now().getTime() + days * DAY_MS)
  const context: BillingContext = billing.with({ clock: { now }, gateway: { ...gateway, reads: debiting(gateway.reads) } })
  await withOrganizationLock(context, id, (session) => syncOrganization(context, session, id, { scope, priority: 'interactive' }))
}

async function failedAt(id: string): Promise<Date | null> {
  const { rows } = await billing.database.db.query<{ at: Date | null }>(
    'select payment_failed_at as at from accounts where organization_id = $1',
    [id],
  )
  return rows[0]!.at
}

async function told(id: string): Promise<number> {
  const { rows } = await billing.database.db.query(
    `select from events where organization_id = $1 and type = 'invoice.payment_failed'`,
    [id],
  )
  return rows.length
}

describe('an invoice that is paid by debit', () => {
  test('has not failed while the bank has not answered, and fails when it does', async () => {
    await debited('slow')
    await look('slow', 'pending', 0)
    expect([await failedAt('slow'), await told('slow')]).toEqual([null, 0])
    await look('slow', 'pending', 4)
    expect(await failedAt('slow')).toBeNull()

    const answered = billing.context.clock.now().getTime() + 5 * DAY_MS
    await look('slow', 'failed', 5)
    const since = (await failedAt('slow'))!.getTime()
    expect(since).toBeGreaterThanOrEqual(answered)
    expect(await told('slow')).toBe(1)
    await look('slow', 'failed', 6)
    expect([(await failedAt('slow'))!.getTime(), await told('slow')]).toEqual([since, 1])
  })

  test('has not failed either where only its invoice is told of', async () => {
    const invoice = await debited('told_of')
    await look('told_of', 'pending', 0, { ...RECENT_SCOPE, charges: false, invoiceIds: [invoice] })
    expect([await failedAt('told_of'), await told('told_of')]).toEqual([null, 0])
  })
})

test('an invoice whose card is declined has failed since it was due', async () => {
  await debited('declined')
  await look('declined', 'failed', 2)
  expect((await failedAt('declined'))!.getTime()).toBeLessThan(billing.context.clock.now().getTime())
  expect(await told('declined')).toBe(1)
})
