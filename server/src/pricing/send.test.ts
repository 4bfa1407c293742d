import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { USE_CATALOG } from '../../test/use-catalog.ts'
import { testUse } from '../../test/used.ts'
import { backoffMs } from '../lib/backoff.ts'
import type { BillingContext } from '../stripe/context.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import type { MeterEvent } from '../stripe/gateway/gateway.ts'
import { advanceTestClock } from '../stripe/test-clock.ts'
import { reportDue, reportNow } from './actions.ts'
import { collectUse } from './collect.ts'
import { reopenFailedEvent } from './event-store.ts'
import { noteMeterFaults } from './faults.ts'
import { sendReports } from './send.ts'

const billing = testUse(USE_CATALOG)
const SENDER = fileURLToPath(new URL('../../test/report-sender.ts', import.meta.url))
const standing = { isStanding: true }

async function customerOf(organizationId: string): Promise<string> {
  const { rows } = await billing.database.db.query<{ customer: string }>(
    'select stripe_customer_id as customer from organizations where id = $1',
    [organizationId],
  )
  return rows[0]!.customer
}

/** What the meters at Stripe count of an organization in all. */
async function countedAtStripe(organizationId: string): Promise<number> {
  const customer = await customerOf(organizationId)
  const events = billing.sandbox.all('billing.meter_event')
  return events.filter((event) => event._.customer === customer).reduce((sum, { _: { value } }) => sum + Number(value), 0)
}

async function outboxOf(organizationId: string): Promise<{ state: string; attempts: number; error: string | null }[]> {
  const { rows } = await billing.database.db.query<{ state: string; attempts: number; error: string | null }>(
    'select state, attempts, error from meter_events where organization_id = $1 order by created_at',
    [organizationId],
  )
  return rows
}

describe('a process that is killed', () => {
  test.each([
    ['between storing a report and sending it', 'before', 'stored'],
    ['between sending a report and writing that down', 'after', 'sent'],
  ])('%s leaves it counted once', async (_, where, word) => {
    const id = await billing.customer('starter')
    await billing.use(id, 'calls', 150)
    const { catalogs } = billing.context
    const args = [SENDER, billing.database.url, String(catalogs.current.version), String(billing.sandbox.port), id, where]
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    const [said] = (await once(child.stdout, 'data')) as [Buffer]
    expect(said.toString()).toBe(`${word}\n`)
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(await outboxOf(id)).toMatchObject([{ state: 'pending', attempts: 1 }])

    await reportNow(billing.context, id)
    await reportNow(billing.context, id)
    expect(await outboxOf(id)).toMatchObject([{ state: 'sent', attempts: 2 }])
    expect(await countedAtStripe(id)).toBe(50)
    await billing.advance(id, '32d')
    expect(await countedAtStripe(id)).toBe(50)
  })
})

/** Reports, and never hears whether it arrived. */
const losing = (id: string, arrives = true) =>
  expect(reportNow(unanswered(arrives), id, standing)).rejects.toMatchObject({ code: 'stripe_unavailable' })

/** The same billing, which does not settle use before a clock moves. */
const quiet = () => billing.with({ onClockMoving: async () => undefined })

const lost = () => new StripeCallError('stripe_unavailable', 'lost', 'unknown')

/** The same billing, whose reports do or do not arrive, and are never answered: all, or those of customers. */
function unanswered(arrives: boolean, customers: readonly string[] | null = null): BillingContext {
  const gateway = billing.context.gateway!
  return billing.with({
    onClockMoving: async () => undefined,
    gateway: {
      ...gateway,
      async sendMeterEvent(event: MeterEvent) {
        if (customers?.includes(event.customerId) === false) return gateway.sendMeterEvent(event)
        if (arrives) await gateway.sendMeterEvent(event)
        throw lost()
      },
    },
  })
}

test.each([
  ['22h 59m', 2, 'is sent again under its name'],
  ['23h', 1, 'is looked for at its meter'],
])('a report whose answer was lost %s ago has %i attempts: it %s', async (age, attempts) => {
  const id = await billing.customer('starter')
  await billing.use(id, 'calls', 150)
  await losing(id)
  for (const by of age.split(' ')) await advanceTestClock(quiet(), id, { by })
  await reportNow(billing.context, id)
  expect(await outboxOf(id)).toMatchObject([{ state: 'sent', attempts }])
  expect(await countedAtStripe(id)).toBe(50)
})

describe('a report whose answer was lost more than a day ago', () => {
  test.each([
    ['had arrived, is not sent again', true],
    ['had not arrived, is sent', false],
  ])('and that %s', async (_, arrives) => {
    const id = await billing.customer('starter')
    await billing.use(id, 'calls', 150)
    await losing(id, arrives)
    await advanceTestClock(quiet(), id, { by: '2d' })
    await reportNow(billing.context, id)
    expect(await outboxOf(id)).toMatchObject([{ state: 'sent' }])
    expect(await countedAtStripe(id)).toBe(50)
  })

  test('is put aside, and said so, when nothing explains what Stripe counts', async () => {
    const id = await billing.customer('starter')
    await billing.use(id, 'calls', 150)
    await losing(id)
    const [event] = billing.sandbox.all('billing.meter_event').slice(-1)
    const foreign = { identifier: 'foreign', eventName: event!.event_name, customerId: event!._.customer, value: '7' }
    await billing.context.gateway!.sendMeterEvent({ ...foreign, at: new Date(event!.timestamp * 1000) })
    await advanceTestClock(quiet(), id, { by: '2d' })
    await reportNow(billing.context, id)
    expect(await outboxOf(id)).toMatchObject([{ state: 'failed', error: expect.stringContaining('Stripe counts 57') }])
    expect(billing.logged).toContainEqual(
      expect.objectContaining({ level: 'error', fields: expect.objectContaining({ event: 'billing.report_failed' }) }),
    )
  })
})

describe('a report whose answer was lost', () => {
  test('is looked for a day after it was first tried, however often since', async () => {
    const id = await billing.customer('starter')
    await billing.use(id, 'calls', 150)
    for (let time = 0; time < 2; time += 1) {
      await losing(id)
      await advanceTestClock(quiet(), id, { by: '12h' })
    }
    await reportNow(billing.context, id)
    expect(await outboxOf(id)).toMatchObject([{ state: 'sent', attempts: 2 }])
    expect(await countedAtStripe(id)).toBe(50)
  })

  test('is looked for among the reports of its own meter', async () => {
    const id = await billing.customer('starter')
    await billing.use(id, 'tokens', 1500)
    await reportNow(billing.context, id, standing)
    await billing.use(id, 'calls', 150)
    await losing(id)
    await advanceTestClock(quiet(), id, { by: '2d' })
    await reportNow(billing.context, id)
    expect(await outboxOf(id)).toMatchObject([{ state: 'sent' }, { state: 'sent', attempts: 1 }])
    expect(await countedAtStripe(id)).toBe(1550)
  })

  test('is looked for to the millionth, also where it takes something back', async () => {
    const id = await billing.customer('starter')
    await billing.use(id, 'calls', '150.25', { key: 'too much by a half' })
    await reportNow(billing.context, id, standing)
    await advanceTestClock(quiet(), id, { by: '330s' })
    await billing.correct(id, 'too much by a half', -30.5)
    await losing(id)
    await advanceTestClock(quiet(), id, { by: '2d' })
    await reportNow(billing.context, id)
    expect(await outboxOf(id)).toMatchObject([{ state: 'sent' }, { state: 'sent', attempts: 1 }])
    expect(await countedAtStripe(id)).toBe(19.75)
  })

  test('stays on its line when the invoice of that is closed: it may be on it', async () => {
    const id = await billing.customer('starter')
    await billing.use(id, 'calls', 150)
    await losing(id)
    await advanceTestClock(quiet(), id, { by: '33d' })
    await reportNow(billing.context, id)
    await billing.advance(id, '31d')
    expect(await countedAtStripe(id)).toBe(50)
    expect((await billing.invoicesOf(id)).map(({ amount_due_minor: due }) => due)).toEqual([1000, 1035, 1000])
  })
})

describe('a report that cannot be sent', () => {
  async function twoCustomers(): Promise<readonly [string, string]> {
    const [failing, other] = [await billing.customer('starter'), await billing.customer('starter')]
    for (const id of [failing, other]) {
      await billing.use(id, 'calls', 150)
      await collectUse(billing.context, id, standing)
    }
    return [failing, other]
  }

  test('waits, and holds up no other organization’s', async () => {
    const [failing, other] = await twoCustomers()
    const gateway = billing.context.gateway!
    const customerId = await customerOf(failing)
    const asked: string[] = []
    const context = billing.with({
      gateway: {
        ...gateway,
        sendMeterEvent(event: MeterEvent) {
          asked.push(event.customerId)
          if (event.customerId === customerId) throw new StripeCallError('stripe_failed', 'An error occurred', 'unknown')
          return gateway.sendMeterEvent(event)
        },
      },
    })
    await expect(sendReports(context, { organizationId: null })).rejects.toThrow('An error occurred')
    expect(await outboxOf(other)).toMatchObject([{ state: 'sent' }])
    expect(await outboxOf(failing)).toMatchObject([{ state: 'pending', attempts: 1 }])
    const waits = backoffMs(1, { firstMs: 60_000, mostMs: 3_600_000 }, failing)
    const told = expect.objectContaining({ event: 'billing.report_postponed', retry_after_ms: waits })
    expect(billing.logged).toContainEqual(expect.objectContaining({ level: 'warn', fields: told }))
    asked.length = 0
    expect(await sendReports(context, { organizationId: null })).toBe(0)
    expect(asked).toEqual([])
    await billing.database.db.query(`update meter_events set next_attempt_at = next_attempt_at - interval '1 minute'`)
    expect(await sendReports(billing.context, { organizationId: null })).toBe(1)
    expect(await countedAtStripe(failing)).toBe(50)
  })

  test('is put aside when whether it arrived cannot be looked up', async () => {
    const [failing, other] = await twoCustomers()
    await expect(sendReports(unanswered(false), { organizationId: failing })).rejects.toThrow('lost')
    await billing.database.db.query(
      `update meter_events set first_attempt_at = first_attempt_at - interval '2 days' where organization_id = $1`,
      [failing],
    )
    const gateway = billing.context.gateway!
    const context = billing.with({
      gateway: { ...gateway, backgroundReads: { ...gateway.backgroundReads, listMeters: () => Promise.resolve([]) } },
    })
    expect(await sendReports(context, { organizationId: null })).toBe(2)
    expect(await outboxOf(failing)).toMatchObject([{ state: 'failed', error: expect.stringContaining('is archived there') }])
    expect(await outboxOf(other)).toMatchObject([{ state: 'sent' }])
    // Sent again by an operator it is another, of which nothing has to be looked up.
    const path = '/api/v1/admin/billing/failed-reports'
    const { reports } = (await billing.ask('GET', `${path}?organization_id=${failing}`)).body as {
      reports: { identifier: string }[]
    }
    await reopenFailedEvent(billing.database.db, reports[0]!.identifier)
    expect(await sendReports(context, { organizationId: null })).toBe(1)
    expect(await outboxOf(failing)).toMatchObject([{ state: 'sent', attempts: 1, error: null }])
  })

  test('and moves to the next invoice while others are sent, is told with its new time', async () => {
    const [first, moved] = await twoCustomers()
    const [ofFirst, ofMoved] = [await customerOf(first), await customerOf(moved)]
    const gateway = billing.context.gateway!
    const context = billing.with({
      gateway: {
        ...gateway,
        async sendMeterEvent(event: MeterEvent) {
          // Meanwhile the other's period ends, and its invoice is closed.
          if (event.customerId === ofFirst) await advanceTestClock(quiet(), moved, { by: '33d' })
          return gateway.sendMeterEvent(event)
        },
      },
    })
    await sendReports(context, { organizationId: null })
    const { rows } = await billing.database.db.query<{ at: Date }>('select at from meter_events where organization_id = $1', [
      moved,
    ])
    const told = billing.sandbox.all('billing.meter_event').filter(({ _: { customer } }) => customer === ofMoved)
    expect(told.map(({ timestamp }) => timestamp * 1000)).toEqual(rows.map(({ at }) => at.getTime()))
    await billing.advance(moved, '33d')
    const invoiced = billing.sandbox.all('invoice').filter(({ customer }) => customer === ofMoved)
    // Three months, and fifty calls at 0.7 cents.
    expect(invoiced.reduce((sum, { total }) => sum + total, 0)).toBe(3 * 1_000 + 35)
  })

  test('of three organizations with others between them ends no round', async () => {
    const pairs = [await twoCustomers(), await twoCustomers(), await twoCustomers()]
    const refused = await Promise.all(pairs.map(([failing]) => customerOf(failing)))
    await expect(sendReports(unanswered(false, refused), { organizationId: null })).rejects.toThrow('lost')
    for (const [, other] of pairs) expect(await outboxOf(other)).toMatchObject([{ state: 'sent' }])
    await billing.database.db.query('update meter_events set next_attempt_at = null')
    expect(await sendReports(billing.context, { organizationId: null })).toBe(pairs.length)
  })

  test('of three organizations in a row ends the round: then Stripe is away', async () => {
    const ids = [...(await twoCustomers()), ...(await twoCustomers())]
    const asked: string[] = []
    const away = unanswered(false)
    const context = billing.with({
      gateway: {
        ...away.gateway!,
        sendMeterEvent(event: MeterEvent) {
          asked.push(event.customerId)
          return away.gateway!.sendMeterEvent(event)
        },
      },
    })
    await expect(sendReports(context, { organizationId: null })).rejects.toThrow('lost')
    expect(asked).toHaveLength(3)
    await billing.database.db.query('update meter_events set next_attempt_at = null')
    expect(await sendReports(billing.context, { organizationId: null })).toBe(ids.length)
  })
})

test('an organization whose use cannot be collected holds up no other', async () => {
  const { db } = billing.database
  const [broken, other] = [await billing.customer('starter'), await billing.customer('starter')]
  for (const id of [broken, other]) {
    await billing.advance(id, '1h')
    await billing.use(id, 'calls', 150)
  }
  await db.query(`update billing_spans set collected_at = collected_at - interval '61 minutes'`)
  await db.query(`update billing_spans set collected_at = collected_at - interval '1 minute' where organization_id = $1`, [
    broken,
  ])
  await db.query(`create function refuse() returns trigger language plpgsql as $$ begin raise exception 'broken'; end $$`)
  await db.query(
    `create trigger refusing before insert on meter_events for each row when (new.organization_id = '${broken}') execute function refuse()`,
  )
  await expect(reportDue(billing.context)).rejects.toThrow('broken')
  expect(await outboxOf(other)).toMatchObject([{ state: 'sent' }])
  await db.query('drop trigger refusing on meter_events')
  await reportDue(billing.context)
  expect(await outboxOf(broken)).toMatchObject([{ state: 'sent' }])
})

test('a correction and what it corrects, between two reports, are no report', async () => {
  const id = await billing.customer('starter')
  await billing.use(id, 'calls', 150, { key: 'mistake' })
  await billing.correct(id, 'mistake', -150)
  await reportNow(billing.context, id, standing)
  expect(await outboxOf(id)).toEqual([])
})

test('use is reported by itself, when an hour of it has come together', async () => {
  const id = await billing.customer('starter')
  await billing.advance(id, '1h')
  await billing.use(id, 'calls', 150)
  await reportDue(billing.context)
  expect(await outboxOf(id)).toEqual([])
  await billing.database.db.query(
    `update billing_spans set collected_at = collected_at - interval '61 minutes' where organization_id = $1`,
    [id],
  )
  await reportDue(billing.context)
  expect(await outboxOf(id)).toMatchObject([{ state: 'sent' }])
})

test('use is reported by the minute when its period is about to end', async () => {
  const id = await billing.customer('starter')
  await billing.advance(id, '1h')
  await billing.use(id, 'calls', 150)
  await billing.database.db.query(
    `update billing_spans span set collected_at = collected_at - interval '1 minute', ends_at = o.test_clock_now + interval '5 minutes'
     from organizations o where o.id = span.organization_id and span.organization_id = $1`,
    [id],
  )
  await reportDue(billing.context)
  expect(await outboxOf(id)).toMatchObject([{ state: 'sent' }])
})

test('several servers that report at once report each count once', async () => {
  const id = await billing.customer('starter')
  await billing.use(id, 'calls', 150)
  await Promise.all(Array.from({ length: 4 }, () => reportNow(billing.context, id, standing)))
  expect(await outboxOf(id)).toHaveLength(1)
  expect(await countedAtStripe(id)).toBe(50)
})

test('a report that Stripe took and then found wrong is a failed one, logged once and shown to operators', async () => {
  const id = await billing.customer('starter')
  await billing.use(id, 'calls', 150)
  const gateway = billing.context.gateway!
  // The customer is gone by the time Stripe looks.
  const context = billing.with({
    gateway: { ...gateway, sendMeterEvent: (event) => gateway.sendMeterEvent({ ...event, customerId: 'cus_gone' }) },
  })
  await reportNow(context, id, standing)
  expect(await outboxOf(id)).toMatchObject([{ state: 'sent' }])
  await noteMeterFaults(billing.context)
  await noteMeterFaults(billing.context)
  expect(await outboxOf(id)).toMatchObject([{ state: 'failed', error: 'meter_event_customer_not_found' }])
  const said = billing.logged.filter(({ fields }) => fields['event'] === 'billing.meter_error')
  expect(said).toMatchObject([{ level: 'error', fields: { count: 1, organizations: [id] } }])
  const { body } = await billing.ask('GET', `/api/v1/admin/billing/failed-reports?organization_id=${id}`)
  expect(body['reports']).toMatchObject([{ organization_id: id, quantity: 50, error: 'meter_event_customer_not_found' }])
  expect(await billing.ask('GET', '/api/v1/admin/billing/failed-reports', undefined, id)).toMatchObject({ status: 403 })

  // Its invoice is closed by the time somebody has put things right: it comes on the next one.
  await billing.advance(id, '32d')
  const [{ identifier }] = body['reports'] as [{ identifier: string }]
  const retry = `/api/v1/admin/billing/failed-reports/${identifier}/retry`
  expect(await billing.ask('POST', retry)).toMatchObject({ status: 200 })
  expect(await billing.ask('POST', retry)).toMatchObject({ status: 404 })
  expect(await outboxOf(id)).toMatchObject([{ state: 'sent', error: null }])
  expect(await countedAtStripe(id)).toBe(50)
  const statement = await billing.ask('GET', `/api/v1/billing/statement?organization_id=${id}`)
  expect(statement.body['usage']).toContainEqual(expect.objectContaining({ balance: 'calls', quantity: 50, late_quantity: 50 }))
})
