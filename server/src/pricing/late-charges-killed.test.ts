import { describe, expect, test } from 'vitest'
import { testCredits } from '../../test/credits.ts'
import { failing, KILLED } from '../../test/failing.ts'
import { makeRoom, refuseWrites } from '../../test/full-disk.ts'
import { DAY_MS } from '../lib/period.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import { chargeDueLateUse, chargeLateUse } from './late-charges.ts'
import { readStatement } from './statement.ts'

const billing = testCredits()
const { db } = billing.database

/** An organization that told 80 calls of starter's time after it had changed to pro: 56 cents. */
async function toldLate(): Promise<string> {
  const id = await billing.customer('starter')
  await billing.use(id, 'calls', 250)
  await billing.advance(id, '1d')
  const before = await billing.nowOf(id)
  await billing.advance(id, '1d')
  await billing.succeed(id, 'upgrade', { new_tier: 'pro' })
  await billing.advance(id, '1h')
  await billing.use(id, 'calls', 80, { occurredAt: before })
  return id
}

async function itemsOf(id: string): Promise<number[]> {
  const customer = await billing.customerOf(id)
  const items = billing.sandbox.all('invoiceitem').filter((item) => item.customer === customer)
  return items.filter(({ metadata }) => metadata?.['tollgate_line'] !== undefined).map(({ amount }) => amount)
}

/** As it is kept and told: its state, and how often the audit log says that it was charged. */
async function toldOf(id: string): Promise<object[]> {
  const { rows } = await db.query<object>(
    `select state, amount_minor::int as minor, (select count(*)::int from audit_log
       where audit_log.organization_id = $1 and action = 'late_use.charged') as told
     from billing_spans where organization_id = $1 and kind = 'late'`,
    [id],
  )
  return rows
}

/** What is left to operators of it. */
async function leftOf(id: string): Promise<object[]> {
  const { rows } = await db.query<object>(
    "select data ->> 'amount_minor' as minor from billing_events where organization_id = $1 and kind = 'invoice_item.left_out'",
    [id],
  )
  return rows
}

const dying = (at: 'before' | 'after') => failing(billing.context, at, 'create_invoice_item', KILLED)

describe('late use whose server is killed while it is charged', () => {
  test.each(['before', 'after'] as const)('%s Stripe’s call is charged once, and told once', async (at) => {
    const id = await toldLate()
    await expect(chargeDueLateUse(dying(at))).rejects.toThrow('killed')
    expect(await toldOf(id)).toEqual([{ state: 'closing', minor: 56, told: 0 }])
    await Promise.all([chargeDueLateUse(billing.context), chargeDueLateUse(billing.context)])
    await chargeDueLateUse(billing.context)
    expect(await itemsOf(id)).toEqual([56])
    expect(await toldOf(id)).toEqual([{ state: 'closed', minor: 56, told: 1 }])
  })

  test('is looked up where Stripe has forgotten the key', async () => {
    const id = await toldLate()
    await chargeDueLateUse(dying('after')).catch(() => undefined)
    await chargeDueLateUse(billing.later(2 * DAY_MS))
    expect(await itemsOf(id)).toEqual([56])
    expect(await toldOf(id)).toEqual([{ state: 'closed', minor: 56, told: 1 }])
  })

  test('once Stripe’s answer is stored, and before the line says so, is charged once', async () => {
    const id = await toldLate()
    await chargeDueLateUse(dying('before')).catch(() => undefined)
    await refuseWrites(db, 'billing_spans')
    await chargeDueLateUse(billing.context).catch(() => undefined)
    await makeRoom(db)
    expect(await toldOf(id)).toEqual([{ state: 'closing', minor: 56, told: 1 }])
    await chargeDueLateUse(billing.context)
    expect(await itemsOf(id)).toEqual([56])
    expect(await toldOf(id)).toEqual([{ state: 'closed', minor: 56, told: 1 }])
  })

  test('is not asked for again while nobody knows what came of the first call', async () => {
    const id = await toldLate()
    await chargeDueLateUse(dying('before')).catch(() => undefined)
    await db.session((session) => chargeLateUse(billing.context, session, id))
    expect([await itemsOf(id), await toldOf(id)]).toEqual([[], [{ state: 'closing', minor: 56, told: 0 }]])
    await chargeDueLateUse(billing.context)
    expect(await itemsOf(id)).toEqual([56])
  })

  test('between fixing its amount and asking for its item keeps the amount, whatever is told meanwhile', async () => {
    const id = await toldLate()
    await chargeDueLateUse(dying('before')).catch(() => undefined)
    const { period } = await readStatement(billing.context, { organizationId: id, at: null })
    await billing.use(id, 'calls', 10, { occurredAt: new Date(period.start.getTime() + DAY_MS) })
    await billing.advance(id, '32d')
    expect(await itemsOf(id)).toEqual([56, 7])
  })
})

test('late use that Stripe does not take is left to operators once, and not asked for again', async () => {
  const id = await toldLate()
  const refusal = new StripeCallError('stripe_failed', 'Stripe refused this request.', 'refused')
  await chargeDueLateUse(failing(billing.context, 'before', 'create_invoice_item', refusal))
  await chargeDueLateUse(billing.context)
  expect(await itemsOf(id)).toEqual([])
  expect(await leftOf(id)).toEqual([{ minor: '56' }])
})

test('late use that Stripe does not take is not asked for again either where its server dies before that is told', async () => {
  const id = await toldLate()
  await chargeDueLateUse(dying('before')).catch(() => undefined)
  const refusal = new StripeCallError('stripe_failed', 'Stripe refused this request.', 'refused')
  await refuseWrites(db, 'billing_events')
  await chargeDueLateUse(failing(billing.context, 'before', 'create_invoice_item', refusal)).catch(() => undefined)
  await makeRoom(db)
  expect(await toldOf(id)).toMatchObject([{ state: 'closing' }])
  await chargeDueLateUse(billing.context)
  expect([await itemsOf(id), await toldOf(id), await leftOf(id)]).toEqual([
    [],
    [{ state: 'closed', minor: 56, told: 0 }],
    [{ minor: '56' }],
  ])
})

test('late use of which Stripe cannot be asked waits, and is no fault', async () => {
  const id = await toldLate()
  const away = new StripeCallError('stripe_unavailable', 'Stripe is away.', 'unanswered')
  await chargeDueLateUse(failing(billing.context, 'before', 'create_invoice_item', away))
  expect(await itemsOf(id)).toEqual([])
  await chargeDueLateUse(billing.context)
  expect(await itemsOf(id)).toEqual([56])
})
