import { expect, test } from 'vitest'
import { payOn } from '../../test/purchases.ts'
import { testSubscriptions } from '../../test/subscriptions.ts'

// Without webhooks, so that nothing but the calls themselves tells what has become of a page.

const billing = testSubscriptions({ webhooks: false })
const { createOrganization, post, succeed } = billing
const ELSEWHERE = { success_url: 'http://localhost:3000/other' }

/** Somebody whose payments were all charged back; answers how the disputes are called at Stripe, the oldest first. */
async function chargedBack(id: string, payments: 1 | 2): Promise<string[]> {
  await createOrganization(id)
  await succeed(id, 'subscribe', { plan: 'starter', payment_method_id: 'pm_card_createDispute' })
  if (payments > 1) await succeed(id, 'upgrade', { plan: 'pro' })
  const customer = await customerOf(id)
  const charges = billing.sandbox.all('charge').filter((charge) => charge.customer === customer)
  const disputes: string[] = []
  for (const charge of charges) {
    const { data } = await billing.stripe.disputes.list({ charge: charge.id })
    disputes.push(data[0]!.id)
  }
  for (const dispute of disputes) await billing.stripe.disputes.close(dispute)
  expect(await billing.call('operator', 'POST', `/api/v1/organizations/${id}/reconcile`)).toMatchObject({ status: 200 })
  return disputes
}

async function customerOf(id: string): Promise<string> {
  const { rows } = await billing.database.db.query<{ id: string }>(
    'select stripe_customer_id as id from organizations where id = $1',
    [id],
  )
  return rows[0]!.id
}

async function pagesOf(id: string) {
  const customer = await customerOf(id)
  return billing.sandbox.all('checkout.session').filter((page) => page.customer === customer)
}

test('a page that was paid a moment ago is not opened a second time, elsewhere', async () => {
  const [dispute] = await chargedBack('paid', 1)
  const { url } = (await post('paid', `disputes/${dispute}/pay`)).body as { url: string }
  expect((await payOn(url)).status).toBe(303)
  expect((await post('paid', `disputes/${dispute}/pay`, ELSEWHERE)).status).toBe(404)
  expect(await pagesOf('paid')).toMatchObject([{ status: 'complete' }])
})

test('a page of one dispute is not closed by that of another', async () => {
  const [first, second] = await chargedBack('twice', 2)
  for (const dispute of [first, second]) expect((await post('twice', `disputes/${dispute}/pay`)).status).toBe(200)
  expect((await post('twice', `disputes/${second}/pay`, ELSEWHERE)).status).toBe(200)
  const pages = (await pagesOf('twice')).map(({ metadata, status }) => [metadata?.['tollgate_dispute'], status])
  expect(pages).toEqual([
    [first, 'open'],
    [second, 'expired'],
    [second, 'open'],
  ])
})
