import { describe, expect, test } from 'vitest'
import { USE_CATALOG } from '../../test/use-catalog.ts'
import { testUse } from '../../test/used.ts'
import { EVENT_COLUMNS, eventOf, type EventRow } from '../metering/write/store.ts'
import { DAY_MS, MINUTE_MS } from '../lib/period.ts'
import { eventBody } from '../usage/events.ts'
import { findSettlements } from '../usage/settlements.ts'
import { closeSettledSpans, findSpan, linkInvoices } from './span-store.ts'
import { readStatement } from './statement.ts'

const billing = testUse(USE_CATALOG)

const statementOf = (organizationId: string, at: Date | null = null) => readStatement(billing.context, { organizationId, at })

async function upgrade(id: string, body: object): Promise<void> {
  const answer = await billing.call(id, 'POST', '/api/v1/billing/upgrade', body)
  if (answer.status !== 200) throw new Error(JSON.stringify(answer.body))
}

/** The organization's newest invoice at Stripe that has a line of so much. */
async function invoiceWith(id: string, amountMinor: number): Promise<string | undefined> {
  const { stripe_customer_id: customer } = (await billing.call(id, 'GET', '/api/v1/billing/subscription')).body
  return billing.sandbox
    .all('invoice')
    .findLast((invoice) => invoice.customer === customer && invoice._.lines.some(({ amount }) => amount === amountMinor))?.id
}

test('what a paused subscription has yet to bill is not final', async () => {
  const id = await billing.customer('starter')
  const began = await billing.nowOf(id)
  await billing.use(id, 'calls', 130)
  await billing.advance(id, '3d')
  expect((await billing.call(id, 'POST', '/api/v1/billing/pause', {})).status).toBe(200)
  await billing.advance(id, '3d')
  const [line] = (await statementOf(id, began)).usage.filter(({ amountMinor }) => amountMinor > 0)
  expect(line).toMatchObject({ amountMinor: 21, invoiceId: null })
  expect(await statementOf(id, began)).toMatchObject({ isFinal: false })
  expect((await billing.call(id, 'POST', '/api/v1/billing/cancel', { immediate: true })).status).toBe(200)
  const { usage, isFinal } = await statementOf(id, began)
  expect({ isFinal, invoice: usage.find(({ amountMinor }) => amountMinor > 0)?.invoiceId }).toEqual({
    isFinal: true,
    invoice: await invoiceWith(id, 21),
  })
})

test('what waits for its invoice for months is on it, and is not told to be still to come', async () => {
  const id = await billing.customer('starter', 'yearly')
  const began = await billing.nowOf(id)
  await billing.use(id, 'calls', 300)
  await billing.advance(id, '3d')
  const change = (path: string) => billing.call(id, 'POST', `/api/v1/billing/${path}`, {})
  expect((await change('pause')).status).toBe(200)
  await billing.advance(id, '100d')
  expect((await change('resume')).status).toBe(200)
  await billing.advance(id, '32d')
  const { usage, isFinal } = await statementOf(id, began)
  const invoice = await invoiceWith(id, 140)
  expect({ isFinal, invoice: usage.find(({ amountMinor }) => amountMinor > 0)?.invoiceId }).toEqual({ isFinal: true, invoice })
  const { body } = await billing.call(id, 'GET', `/api/v1/billing/status/tenant/${id}`)
  expect(body).toMatchObject({ next_invoice_amount_cents: 0 })
})

test('a hold is neither overage nor on an invoice: what is used of it is', async () => {
  const id = await billing.customer('starter')
  await billing.hold(id, 'tokens', 15, 60)
  await billing.advance(id, '32d')
  const { rows } = await billing.database.db.query<EventRow>(
    `select ${EVENT_COLUMNS} from usage_events e where organization_id = $1 and meter = 'tokens'`,
    [id],
  )
  const [event, ...others] = rows.map(eventOf).filter(({ verb }) => verb === 'reserve')
  expect(others).toEqual([])
  expect(eventBody(event!)).toMatchObject({ verb: 'reserve', credits_used: 0, overage: 0 })
  expect((await findSettlements(billing.database.db, [event!]))(event!)).toEqual({ billed: false, invoice_id: null })
})

test('a line whose invoice never comes takes late use for four days, and is closed then', async () => {
  const id = await billing.customer('starter')
  const { end } = (await statementOf(id)).period
  await billing.advance(id, `${Math.ceil((end.getTime() - (await billing.nowOf(id)).getTime()) / MINUTE_MS) + 1}m`)
  const { db } = billing.database
  await db.query(`delete from stripe_invoices where organization_id = $1 and status = 'draft'`, [id])
  const closed = (afterMs: number) => closeSettledSpans(db, id, new Date(end.getTime() + 4 * DAY_MS + afterMs))
  expect(await closed(0)).toEqual([])
  expect(await closed(1)).toMatchObject([{ endsAt: end }, { endsAt: end }, { endsAt: end }])
})

describe('the invoice of a line is the one that has it', () => {
  test('where another was made within the minute before it', async () => {
    const id = await billing.customer('starter')
    const began = await billing.nowOf(id)
    await billing.use(id, 'calls', 130)
    await billing.advance(id, '40s')
    await upgrade(id, { new_tier: 'pro' })
    const { usage } = await statementOf(id, began)
    const line = usage.find(({ amountMinor }) => amountMinor === 21)
    expect(line?.invoiceId).toBe(await invoiceWith(id, 21))
    expect(line?.invoiceId).toBeTruthy()
  })

  test('where the clocks of Stripe and this server differ by seconds, and where Stripe has left a line of nothing out', async () => {
    const id = await billing.customer('starter')
    const second = (await statementOf(id)).period.end
    await billing.advance(id, '70d')
    const { db } = billing.database
    const {
      id: line,
      invoiceId,
      period,
    } = (await statementOf(id, second)).usage.find(({ balanceKey }) => balanceKey === 'calls')!
    const change = (text: string, ...values: unknown[]) => db.query(text, [id, ...values])
    await change(
      `update billing_spans set starts_at = starts_at - interval '5 seconds', invoice_id = null where organization_id = $1 and id = $2`,
      line,
    )
    await linkInvoices(db, id, second)
    expect(await findSpan(db, { organizationId: id, id: line })).toMatchObject({ invoiceId })

    await change(
      `update billing_spans set starts_at = starts_at + interval '5 seconds', state = 'closing', invoice_id = null
       where organization_id = $1 and id = $2`,
      line,
    )
    await change(
      `update stripe_invoices set created_at = $3::timestamptz - interval '5 seconds', data = jsonb_set(data, '{lines,data}', '[]')
       where organization_id = $1 and id = $2`,
      invoiceId,
      period.end,
    )
    expect(await closeSettledSpans(db, id, await billing.nowOf(id))).toMatchObject([{ id: line, invoiceId }])
  })

  test('where seats were changed within the last minute of the period: it takes late use until its own is closed', async () => {
    const id = await billing.customer('starter')
    const { period } = await statementOf(id)
    await billing.use(id, 'calls', 110)
    const leftMs = period.end.getTime() - (await billing.nowOf(id)).getTime()
    await billing.advance(id, `${Math.floor(leftMs / 60_000) - 1}m`)
    await billing.advance(id, '30s')
    await upgrade(id, { new_tier: 'starter', quantity: 2 })
    await billing.advance(id, '20m')
    const last = new Date(period.end.getTime() - 1)
    expect(await billing.use(id, 'calls', 67, { occurredAt: last })).toMatchObject({ late: 'open' })
    expect(await statementOf(id, last)).toMatchObject({ isFinal: false })
    await billing.advance(id, '2h')
    const { usage, isFinal } = await statementOf(id, last)
    expect(isFinal).toBe(true)
    expect(usage.find(({ balanceKey }) => balanceKey === 'calls')).toMatchObject({
      amountMinor: 54,
      invoiceId: await invoiceWith(id, 54),
    })
    expect(await invoiceWith(id, 54)).toBeTruthy()
  })
  test('where the one before has a line of the same price that ends when it begins: until its own is there, it is on none', async () => {
    const id = await billing.customer('pro')
    await billing.use(id, 'calls', 230)
    await billing.advance(id, '32d')
    await billing.use(id, 'calls', 240)
    await billing.advance(id, '1d')
    const began = (await statementOf(id)).period.start
    await billing.succeed(id, 'downgrade', { new_tier: 'starter' })
    const ended = async () =>
      (await statementOf(id, began)).usage.find(({ state, balanceKey }) => state === 'closed' && balanceKey === 'calls')
    expect(await ended()).toMatchObject({ amountMinor: 20, invoiceId: null })
    await billing.advance(id, '32d')
    expect(await ended()).toMatchObject({ amountMinor: 20, invoiceId: await invoiceWith(id, 20) })
  })
})
