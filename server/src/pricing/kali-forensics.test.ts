import { describe, expect, test } from 'vitest'
import { testUse } from '../../test/used.ts'
import { importCatalogDefinition } from '../catalog/registry.ts'
import { DAY_MS } from '../lib/period.ts'
import type { UsageEvent } from '../metering/usage.ts'
import { findSettlements } from '../usage/settlements.ts'

const billing = testUse(await importCatalogDefinition('examples/kali-forensics/billing.config.ts'))

const record = (tenant: string, usage_type: string, quantity: number | string, extra = {}) =>
  billing.ask('POST', '/api/v1/billing/usage', { tenant_id: tenant, usage_type, quantity, ...extra })
const summaryOf = async (tenant: string, query = '') =>
  (await billing.ask('GET', `/api/v1/billing/usage/tenant/${tenant}/summary${query}`)).body

describe('KF-7 a tenant’s use', () => {
  test('is recorded by its type', async () => {
    const tenant = await billing.customer('standard')
    const answer = await record(tenant, 'case', 2, { metadata: { case_id: 'c-7' } })
    expect(answer).toMatchObject({
      status: 200,
      body: { success: true, data: { tenant_id: tenant, usage_type: 'case', quantity: 2 }, tenant_id: tenant },
    })
  })

  test('says what metadata may be', async () => {
    const refused = await record(await billing.customer('standard'), 'case', 1, { metadata: { place: { city: 'x' } } })
    expect(refused).toMatchObject({
      status: 400,
      body: { detail: expect.stringMatching(/metadata\.place: a text of .*, a number or a boolean/) },
    })
  })

  test('has no number in its metadata that loses digits', async () => {
    const tenant = await billing.customer('standard')
    const refused = await record(tenant, 'case', 1, { metadata: { case_id: 2 ** 53 } })
    expect(refused).toMatchObject({ status: 400, body: { detail: expect.stringMatching(/metadata\.case_id: .* loses digits/) } })
    expect((await summaryOf(tenant))['usage']).toMatchObject({ case: { quantity: 0 } })
  })

  test('is told again under its key with the time of the first', async () => {
    const tenant = await billing.customer('standard')
    const again = () => {
      const use = { tenant_id: tenant, usage_type: 'case', quantity: 1 }
      return billing.ask('POST', '/api/v1/billing/usage', use, 'operator', { 'idempotency-key': 'once' })
    }
    const first = await again()
    const recorded = Date.parse(String(first.body['recorded_at']))
    while (billing.context.clock.now().getTime() <= recorded) await new Promise(setImmediate)
    expect((await again()).body).toEqual(first.body)
  })

  test('has no key of the server’s own: one told before a level is carried would stand in its way', async () => {
    const tenant = await billing.customer('standard')
    const use = { tenant_id: tenant, usage_type: 'case', quantity: 1 }
    const refused = await billing.ask('POST', '/api/v1/billing/usage', use, 'operator', { 'idempotency-key': 'level:agent:x' })
    expect(refused).toMatchObject({
      status: 400,
      body: { detail: expect.stringMatching(/idempotency-key: keys that begin with/) },
    })
    expect((await summaryOf(tenant))['usage']).toMatchObject({ case: { quantity: 0 } })
  })

  test('of less than nothing is refused: what was recorded wrongly is corrected', async () => {
    const tenant = await billing.customer('standard')
    expect(await record(tenant, 'case', -1)).toMatchObject({ status: 422, body: { code: 'invalid_quantity', field: 'quantity' } })
  })

  test('of a type that does not exist, or of nobody, is refused', async () => {
    const tenant = await billing.customer('standard')
    expect(await record(tenant, 'nonsense', 1)).toMatchObject({ status: 422, body: { code: 'unknown_meter' } })
    expect(await record('nobody', 'case', 1)).toMatchObject({ status: 404 })
    const foreign = { tenant_id: tenant, usage_type: 'case', quantity: 1 }
    expect(await billing.ask('POST', '/api/v1/billing/usage', foreign, 'another')).toMatchObject({ status: 404 })
  })
})

describe('KF-8 the summary', () => {
  test('KF-1 has each type at its rate, and agrees with the statement and the invoice', async () => {
    const tenant = await billing.customer('standard')
    const began = await billing.nowOf(tenant)
    for (const agents of [3, 5, 2]) await record(tenant, 'agent', agents)
    await record(tenant, 'user', 4)
    await record(tenant, 'case', 3)
    await record(tenant, 'event_ingestion', 1234)
    await record(tenant, 'api_call', 1001)
    await record(tenant, 'platform_base', 1)
    expect(await summaryOf(tenant)).toMatchObject({
      tenant_id: tenant,
      currency: 'usd',
      usage: {
        agent: { quantity: 5, cost_cents: 25_000 },
        user: { quantity: 4, cost_cents: 10_000 },
        case: { quantity: 3, cost_cents: 3000 },
        event_ingestion: { quantity: 1234, cost_cents: 1234 },
        api_call: { quantity: 1001, cost_cents: 20 },
        platform_base: { quantity: 1, cost_cents: 10_000 },
      },
      total_cost_cents: 49_254,
      billed: false,
    })
    const dated = await billing.ask(
      'GET',
      `/api/v1/billing/usage/tenant/${tenant}/summary?period_start=2000-01-01&period_end=2100-01-01`,
    )
    expect(dated.body).toMatchObject({ period_start: '2000-01-01T00:00:00.000Z', usage: { case: { quantity: 3 } } })
    const statement = await billing.ask('GET', `/api/v1/billing/statement?organization_id=${tenant}`)
    expect(statement.body).toMatchObject({ total_minor: 49_254, final: false })

    await billing.advance(tenant, '32d')
    const invoices = (await billing.call(tenant, 'GET', '/api/v1/billing/invoices')).body as unknown as { amount_paid: number }[]
    // The invoice of the second month: the first month's use, and the base fee in advance.
    expect(invoices[0]).toMatchObject({ amount_paid: 492.54 })
    // Stripe calls a line by its product: each balance has its own, so that lines can be told apart.
    const { data: lines } = await billing.stripe.invoices.listLineItems((invoices[0] as unknown as { id: string }).id, {
      limit: 20,
    })
    const called = lines.map(
      ({ description }) => description?.match(/Agents|Users|Cases|Ingested events|API calls|Standard/)?.[0],
    )
    expect(new Set(called)).toEqual(new Set(['Agents', 'Users', 'Cases', 'Ingested events', 'API calls', 'Standard']))
    const query = `?period_start=${began.toISOString()}&period_end=${new Date(began.getTime() + 1000).toISOString()}`
    expect(await summaryOf(tenant, query)).toMatchObject({ total_cost_cents: 49_254 })
  })

  test('KF-1 has the base fee once: what a report of it says shows, also where nobody is charged, and costs nothing more', async () => {
    const baseOf = async (tenant: string) => {
      const { usage, total_cost_cents: total } = (await summaryOf(tenant)) as {
        usage: Record<string, object>
        total_cost_cents: number
      }
      return { ...usage['platform_base'], total }
    }
    const charged = await billing.customer('standard')
    expect(await baseOf(charged)).toMatchObject({ quantity: 1, cost_cents: 10_000, total: 10_000 })
    await record(charged, 'platform_base', 1)
    expect(await baseOf(charged)).toMatchObject({ quantity: 1, cost_cents: 10_000, total: 10_000 })
    await record(charged, 'platform_base', 3)
    expect(await baseOf(charged)).toMatchObject({ quantity: 3, cost_cents: 10_000, total: 10_000 })
    const free = await billing.createOrganization('without-plan')
    expect(await baseOf(free)).toMatchObject({ quantity: 0, cost_cents: 0, total: 0 })
    await record(free, 'platform_base', 1)
    expect(await baseOf(free)).toMatchObject({ quantity: 1, cost_cents: 0, total: 0 })
  })

  test('KF-11 says which paid invoice has settled the use of a time', async () => {
    const tenant = await billing.customer('standard')
    const began = await billing.nowOf(tenant)
    await record(tenant, 'case', 1)
    await billing.advance(tenant, '32d')
    const end = new Date(began)
    end.setUTCDate(end.getUTCDate() + 20)
    const first = await summaryOf(tenant, `?period_start=${began.toISOString()}&period_end=${end.toISOString()}`)
    expect(first).toMatchObject({ billed: true, invoices: [{ period_start: began.toISOString(), paid_at: expect.any(String) }] })
    expect(await summaryOf(tenant)).toMatchObject({ billed: false, invoices: [] })
    // Of a time of which only a part was used, and that part is settled; then one in which something is not.
    const days = `?period_start=${began.toISOString().slice(0, 10)}&period_end=`
    expect(await summaryOf(tenant, `${days}${end.toISOString().slice(0, 10)}`)).toMatchObject({ billed: true })
    await record(tenant, 'case', 1)
    expect(
      await summaryOf(tenant, `${days}${new Date(began.getTime() + 40 * 86_400_000).toISOString().slice(0, 10)}`),
    ).toMatchObject({
      billed: false,
    })
  })

  test('KF-11 an invoice that is paid late has settled its time from then on', async () => {
    const tenant = await billing.customer('standard')
    const began = await billing.nowOf(tenant)
    await record(tenant, 'case', 1)
    const pay = (method: string) => billing.succeed(tenant, 'payment-methods', { payment_method_id: method })
    await pay('pm_card_chargeCustomerFail')
    await billing.advance(tenant, '32d')
    const query = `?period_start=${began.toISOString()}&period_end=${new Date(began.getTime() + 20 * DAY_MS).toISOString()}`
    expect(await summaryOf(tenant, query)).toMatchObject({ billed: false, invoices: [{ paid_at: null }] })
    await pay('pm_card_visa')
    const [owed] = await billing.invoicesOf(tenant, '?status=open')
    await billing.succeed(tenant, `invoices/${owed!.id}/pay`)
    expect(await summaryOf(tenant, query)).toMatchObject({ billed: true, invoices: [{ paid_at: expect.any(String) }] })
  })

  test('KF-11 an invoice that was voided settles nothing, and is not told as one that is owed', async () => {
    const tenant = await billing.customer('standard')
    const began = await billing.nowOf(tenant)
    await record(tenant, 'case', 1)
    await billing.succeed(tenant, 'payment-methods', { payment_method_id: 'pm_card_chargeCustomerFail' })
    await billing.advance(tenant, '32d')
    const query = `?period_start=${began.toISOString()}&period_end=${new Date(began.getTime() + 20 * DAY_MS).toISOString()}`
    expect(await summaryOf(tenant, query)).toMatchObject({ billed: false, invoices: [{ paid_at: null }] })
    const [owed] = await billing.invoicesOf(tenant, '?status=open')
    await billing.stripe.invoices.voidInvoice(owed!.id)
    await billing.call('operator', 'POST', `/api/v1/organizations/${tenant}/reconcile`)
    expect(await billing.invoicesOf(tenant, '?status=open')).toEqual([])
    expect(await summaryOf(tenant, query)).toMatchObject({ billed: false, invoices: [] })
  })

  test('KF-11 a paid invoice marks the period’s usage records as billed, and names itself on them', async () => {
    const tenant = await billing.customer('standard')
    const { body } = await record(tenant, 'case', 2)
    const settled = async () => {
      const { rows } = await billing.database.db.query<UsageEvent>(
        `select organization_id as "organizationId", id, occurred_at as "occurredAt", recorded_at as "recordedAt",
           verb, refusal
         from usage_events where organization_id = $1`,
        [tenant],
      )
      return (await findSettlements(billing.database.db, rows))({ id: String(body['id']) })
    }
    expect(await settled()).toEqual({ billed: false, invoice_id: null })
    await billing.advance(tenant, '32d')
    const invoices = (await billing.call(tenant, 'GET', '/api/v1/billing/invoices')).body as unknown as { id: string }[]
    expect(await settled()).toEqual({ billed: true, invoice_id: invoices[0]!.id })
  })

  test('is not there for another tenant', async () => {
    const tenant = await billing.customer('standard')
    expect(await billing.ask('GET', `/api/v1/billing/usage/tenant/${tenant}/summary`, undefined, 'another')).toMatchObject({
      status: 404,
    })
  })
})

test('KF-1 the rates come from variables', async () => {
  const path = 'examples/kali-forensics/billing.config.ts'
  const changed = await importCatalogDefinition(path, { BILLING_RATE_PER_CASE: '1500', BILLING_CURRENCY: 'eur' })
  expect(changed).toMatchObject({ currency: 'eur' })
  expect(JSON.stringify(changed)).toContain('"unitAmountMinor":"1500"')
  await expect(importCatalogDefinition(path, { BILLING_RATE_PLATFORM_BASE: 'much' })).rejects.toThrow('amountMinor')
})
