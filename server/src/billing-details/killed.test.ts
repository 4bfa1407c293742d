import { expect, test } from 'vitest'
import { testBilling } from '../../test/billing.ts'
import { failing, KILLED } from '../../test/failing.ts'
import { MINUTE_MS } from '../lib/period.ts'
import type { BillingContext } from '../stripe/context.ts'
import { finishStrandedIntents } from '../stripe/intents/finish-intents.ts'
import { changeBillingDetails } from './actions.ts'
import type { DetailsRequest } from './details.ts'

// Without webhooks, so that nothing but the calls themselves tells what there is at Stripe.
const billing = testBilling({ webhooks: false })
const GERMAN = { type: 'eu_vat', value: 'DE123456789' }
const AUSTRIAN = { type: 'eu_vat', value: 'ATU12345678' }

type Change = { readonly wanted: DetailsRequest; readonly requestKey?: string; readonly context?: BillingContext }
const change = (organizationId: string, { wanted, requestKey, context = billing.context }: Change) =>
  changeBillingDetails(
    context,
    { organizationId, wanted },
    { actor: 'operator:test', requestId: 'req', ...(requestKey === undefined ? {} : { requestKey }) },
  )

async function customerOf(organizationId: string) {
  const { rows } = await billing.database.db.query<{ id: string }>(
    'select stripe_customer_id as id from organizations where id = $1',
    [organizationId],
  )
  return billing.stripe.customers.retrieve(rows[0]!.id, { expand: ['tax_ids'] })
}

async function german(id: string): Promise<string> {
  await billing.createOrganization(id)
  await change(id, { wanted: { name: 'Before', taxId: GERMAN } })
  return id
}

test('a tax id that Stripe took is followed by the rest, though the server dies in between and nobody comes back', async () => {
  const id = await german('killed')
  const context = failing(billing.context, 'before', 'update_customer', KILLED)
  await expect(change(id, { wanted: { name: 'After', taxId: AUSTRIAN }, context })).rejects.toThrow('killed')
  expect(await customerOf(id)).toMatchObject({ name: 'Before' })
  await finishStrandedIntents(billing.later(5 * MINUTE_MS))
  expect(await customerOf(id)).toMatchObject({ name: 'After', tax_ids: { data: [AUSTRIAN] } })
})

test('a change is made once: repeated after its server died, it does not undo what was changed since', async () => {
  const id = await german('repeated')
  const first = { wanted: { name: 'First' }, requestKey: 'first' }
  const context = failing(billing.context, 'after', 'update_customer', KILLED)
  await expect(change(id, { ...first, context })).rejects.toThrow('killed')
  expect(await change(id, { wanted: { name: 'Second' } })).toMatchObject({ name: 'Second' })
  expect(await change(id, first)).toMatchObject({ name: 'Second' })
  expect(await customerOf(id)).toMatchObject({ name: 'Second' })
})

test('what was changed at Stripe a moment ago is known by then: one tax id takes the place of all there are', async () => {
  const id = await german('at_stripe')
  const { id: customerId } = await customerOf(id)
  await billing.stripe.customers.createTaxId(customerId, { type: 'gb_vat', value: 'GB123456789' })
  expect(await change(id, { wanted: { taxId: AUSTRIAN } })).toMatchObject({ taxIds: [AUSTRIAN] })
  expect(await customerOf(id)).toMatchObject({ tax_ids: { data: [AUSTRIAN] } })
})
