import { beforeAll, describe, expect, test } from 'vitest'
import { testBilling } from '../../test/billing.ts'
import { KILLED } from '../../test/failing.ts'
import { textOfPdf } from '../../test/pdf-text.ts'
import { seedCustomers } from '../../test/seed-customers.ts'
import { ManualClock } from '../lib/clock.ts'
import { closeDays } from '../analytics/jobs.ts'
import { loadTypeface } from './pdf-fonts.ts'
import { exportJobs, makeNextExport } from './jobs.ts'
import { claimExport, finishExport, insertChunk, readChunk, saveProgress } from './store.ts'

const clock = new ManualClock(new Date('2026-03-10T12:00:00Z'))
const typeface = loadTypeface([])
const billing = testBilling({ webhooks: false, clock })
const worker = () => ({ ...billing.context, graceDays: 3, rates: null, typeface })
const ADMIN = '/api/v1/admin/exports'

type Made = {
  readonly id: string
  readonly state: string
  readonly bytes: number
  readonly file_url: string | null
  readonly error: string | null
}

beforeAll(async () => {
  const { version } = billing.context.catalogs.current
  await seedCustomers(billing.database.db, { organizations: 1_500, invoicesEach: 2, catalogVersion: version })
  await billing.database.db.query(`update organizations set name = '=HYPERLINK("http://example.com")' where id = 'seed_00001'`)
  await billing.database.db.query(
    `insert into usage_hourly (organization_id, meter, hour, events, quantity, drawn, overage)
     select 'seed_00002', 'episode_search', timestamptz '2026-03-01' + n * interval '5 hours', 2, 500000, 50000, 10000 from generate_series(0, 9) n`,
  )
})

async function ask(caller: string, body: Record<string, unknown>, base = '/api/v1/exports'): Promise<Made> {
  const answer = await billing.call(caller, 'POST', base, body)
  expect(answer, JSON.stringify(answer.body)).toMatchObject({ status: 202, body: { state: 'queued', progress: { made: 0 } } })
  return answer.body as unknown as Made
}

async function make(caller: string, body: Record<string, unknown>, base = '/api/v1/exports'): Promise<Made> {
  const { id } = await ask(caller, body, base)
  expect(await makeNextExport(worker())).toBe(1)
  return (await billing.call(caller, 'GET', `${base}/${id}`)).body as unknown as Made
}

/** The bytes of a file as the database holds them. */
async function bytesOf(id: string): Promise<Buffer> {
  const { rows } = await billing.database.db.query<{ data: Buffer }>(
    'select data from export_chunks where export_id = $1 order by number',
    [id],
  )
  return Buffer.concat(rows.map(({ data }) => data))
}

describe('an export', () => {
  test('of all organizations is queued, made, and then there, every row once', async () => {
    const made = await make('operator', { kind: 'organizations', format: 'csv' }, ADMIN)
    expect(made).toMatchObject({ state: 'done', progress: { made: 1_500, planned: 1_500 }, organization_id: null, error: null })
    const lines = (await bytesOf(made.id)).toString('utf8').trimEnd().split('\r\n')
    expect(lines[0]).toBe('id,name,email,stripe_customer_id,plan,status,created')
    expect(new Set(lines.slice(1).map((line) => line.split(',')[0])).size).toBe(1_500)
    const subscriptions = await make(
      'operator',
      { kind: 'subscriptions', format: 'csv', filter: { status: 'past_due', currency: 'eur' } },
      ADMIN,
    )
    const { rows } = await billing.database.db.query<{ count: number }>(
      `select count(*)::int as count from stripe_subscriptions where status = 'past_due' and currency = 'eur'`,
    )
    expect(subscriptions).toMatchObject({ state: 'done', progress: { made: rows[0]!.count } })
  })

  test('runs nothing in a spreadsheet', async () => {
    const made = await make('operator', { kind: 'organizations', format: 'csv', to: '2025-01-02' }, ADMIN)
    expect((await bytesOf(made.id)).toString('utf8')).toContain(`seed_00001,"'=HYPERLINK(""http://example.com"")",`)
  })

  test('of an organization’s admin holds its own invoices, in major units', async () => {
    const made = await make('seed_00003', { kind: 'invoices', format: 'csv' })
    const lines = (await bytesOf(made.id)).toString('utf8').trimEnd().split('\r\n')
    expect(lines).toHaveLength(3)
    expect(lines[1]).toMatch(
      /^in_seed_00003_1,SEED-00003-0001,seed_00003,Customer 3,paid,usd,13\.00,13\.00,13\.00,13\.00,0\.00,2025-/,
    )
  })

  test('of invoices says what lies between the total and what was paid', async () => {
    const balances = `'{"starting_balance": -350, "ending_balance": 0, "pre_payment_credit_notes_amount": 200}'`
    await billing.database.db.query(`update stripe_invoices set data = data || ${balances} where id = 'in_seed_00008_1'`)
    const made = await make('seed_00008', { kind: 'invoices', format: 'csv' })
    const [names, ...rows] = (await bytesOf(made.id)).toString('utf8').trimEnd().split('\r\n')
    const cells = rows.find((row) => row.startsWith('in_seed_00008_1'))!.split(',')
    expect(Object.fromEntries(names!.split(',').map((name, index) => [name, cells[index]]))).toMatchObject({
      amount_credited: '2.00',
      balance_applied: '3.50',
    })
  })

  test('as a ZIP holds each invoice as a PDF', async () => {
    const made = await make('operator', { kind: 'invoices', format: 'zip', organization_id: 'seed_00004' }, ADMIN)
    expect(made).toMatchObject({ state: 'done', progress: { made: 2, planned: 2 } })
    const zip = await bytesOf(made.id)
    expect(zip.length).toBe(made.bytes)
    const names = zip.toString('latin1').match(/SEED-00004-000\d-in_seed_00004_\d\.pdf/g)
    expect(new Set(names)).toEqual(new Set(['SEED-00004-0001-in_seed_00004_1.pdf', 'SEED-00004-0002-in_seed_00004_2.pdf']))
    expect(zip.toString('latin1').match(/%PDF-1\.\d/g)).toHaveLength(2)
  })

  test('of which one document cannot be drawn fails alone, and the worker goes on', async () => {
    const lines = `jsonb_set(data, '{lines}', '{"data": [{"description": 5, "amount": 100, "quantity": 1}]}')`
    await billing.database.db.query(`update stripe_invoices set data = ${lines} where id = 'in_seed_00007_1'`)
    const failed = await make('seed_00007', { kind: 'invoices', format: 'zip' })
    expect(failed).toMatchObject({ state: 'failed', file_url: null })
    expect(await make('seed_00008', { kind: 'invoices', format: 'zip' })).toMatchObject({ state: 'done' })
  })

  test('tells what an organization used, as CSV and as PDF', async () => {
    const asked = { kind: 'usage_statement', from: '2026-03-01', to: '2026-04-01' }
    const csv = (await bytesOf((await make('seed_00002', { ...asked, format: 'csv' })).id)).toString('utf8')
    expect(csv.split('\r\n')[1]).toBe('2026-03-01,episode_search,10,2.5,0.25,0.05')
    const pdf = await bytesOf((await make('seed_00002', { ...asked, format: 'pdf' })).id)
    expect(textOfPdf(pdf)).toContain('Usage statement')
    expect(textOfPdf(pdf)).toContain('episode_search')
  })

  test('without a span tells the use of the month and the days of the organization’s clock and zone', async () => {
    const { db } = billing.database
    await db.query(`update organizations set time_zone = 'Asia/Tokyo' where id = 'seed_00003'`)
    await db.query(`update organizations set test_clock_now = '2026-06-20T00:00:00Z' where id = 'seed_00004'`)
    // An hour of the first of March and one of the first of April in Tokyo; one of June.
    await db.query(
      `insert into usage_hourly (organization_id, meter, hour, events, quantity, drawn, overage)
       select id, 'episode_search', hour, 1, 1000000, 0, 0 from (values ('seed_00003', timestamptz '2026-02-28T16:00:00Z'),
         ('seed_00003', '2026-03-31T16:00:00Z'), ('seed_00004', '2026-06-10T10:00:00Z')) used (id, hour)`,
    )
    const asked = { kind: 'usage_statement', format: 'csv' }
    const linesOf = async (id: string) =>
      (await bytesOf((await make(id, asked)).id)).toString('utf8').trimEnd().split('\r\n').slice(1)
    expect(await linesOf('seed_00003')).toEqual(['2026-03-01,episode_search,1,1,0,0'])
    expect(await linesOf('seed_00004')).toEqual(['2026-06-10,episode_search,1,1,0,0'])
    const pdf = await bytesOf((await make('seed_00003', { ...asked, format: 'pdf' })).id)
    expect(textOfPdf(pdf)).toContain('2026-03-01 to 2026-04-01 (Asia/Tokyo')
    // Dates are days of that zone too; moments are what they say.
    const march = await make('seed_00003', { ...asked, from: '2026-03-01', to: '2026-04-01' })
    expect(march).toMatchObject({ from: '2026-02-28T15:00:00.000Z', to: '2026-03-31T15:00:00.000Z' })
    expect((await bytesOf(march.id)).toString('utf8').trimEnd().split('\r\n').slice(1)).toEqual([
      '2026-03-01,episode_search,1,1,0,0',
    ])
    const moments = { from: '2026-03-01T00:00:00Z', to: '2026-04-01T00:00:00+09:00' }
    expect(await make('seed_00003', { ...asked, ...moments })).toMatchObject({
      from: '2026-03-01T00:00:00.000Z',
      to: '2026-03-31T15:00:00.000Z',
    })
    expect(await make('seed_00004', { ...asked, from: '2026-06-10' })).toMatchObject({ from: '2026-06-10T00:00:00.000Z' })
    // A list is of moments, whoever asks for it.
    const invoices = await make('seed_00003', { kind: 'invoices', format: 'csv', from: '2026-03-01' })
    expect(invoices).toMatchObject({ from: '2026-03-01T00:00:00.000Z' })
    const empty = { ...asked, from: '2026-03-02T00:00:00+09:00', to: '2026-03-02' }
    expect(await billing.call('seed_00003', 'POST', '/api/v1/exports', empty)).toMatchObject({
      status: 400,
      body: { field: 'from' },
    })
  })

  test('of organizations without a subscription has them by the status that it shows, and none by one that there is not', async () => {
    const asked = { kind: 'organizations', format: 'csv', filter: { status: 'none' } }
    await billing.database.db.query(`update accounts set subscription_status = null where organization_id = 'seed_00009'`)
    const lines = (await bytesOf((await make('operator', asked, ADMIN)).id)).toString('utf8').split('\r\n')
    expect(lines.some((line) => line.startsWith('seed_00009,'))).toBe(true)
    const { rows } = await billing.database.db.query<{ count: number }>(
      'select count(*)::int as count from accounts where subscription_status is null',
    )
    expect(lines).toHaveLength(rows[0]!.count + 2)
    for (const [kind, format, status] of [
      ['organizations', 'csv', 'bogus'],
      ['subscriptions', 'csv', 'none'],
      ['invoices', 'csv', 'active'],
      ['revenue_movements', 'csv', 'paid'],
      ['analytics_report', 'pdf', 'paid'],
    ]) {
      const answer = await billing.call('operator', 'POST', ADMIN, { kind, format, filter: { status } })
      expect(answer, `${kind} ${status}`).toMatchObject({ status: 400, body: { field: 'filter.status' } })
    }
  })

  test('tells how revenue stands, as PDF', async () => {
    await closeDays(billing.database.db, clock)
    const made = await make('operator', { kind: 'analytics_report', format: 'pdf' }, ADMIN)
    expect(textOfPdf(await bytesOf(made.id))).toContain('Revenue report')
    const movements = await make('operator', { kind: 'revenue_movements', format: 'csv' }, ADMIN)
    expect(movements).toMatchObject({ state: 'done' })
  })

  test('is not another organization’s, nor one that cannot be', async () => {
    const { id } = await make('seed_00005', { kind: 'invoices', format: 'csv' })
    for (const path of [id, `${id}/file`]) {
      expect((await billing.call('seed_00006', 'GET', `/api/v1/exports/${path}`)).status).toBe(404)
      expect((await billing.call('seed_00005:read', 'GET', `/api/v1/exports/${path}`)).status).toBe(403)
      expect((await billing.call('seed_00005', 'GET', `${ADMIN}/${path}`)).status).toBe(403)
    }
    const refused = (caller: string, body: Record<string, unknown>) => billing.call(caller, 'POST', '/api/v1/exports', body)
    expect((await refused('seed_00005', { kind: 'organizations', format: 'csv' })).body).toMatchObject({ field: 'kind' })
    expect((await refused('seed_00005', { kind: 'invoices', format: 'csv', organization_id: 'seed_00006' })).status).toBe(404)
    expect((await refused('seed_00005', { kind: 'usage_statement', format: 'zip' })).body).toMatchObject({ field: 'format' })
    expect((await refused('operator', { kind: 'usage_statement', format: 'csv' })).body).toMatchObject({
      field: 'organization_id',
    })
    expect((await refused('operator', { kind: 'invoices', format: 'csv', organization_id: 'nowhere' })).status).toBe(404)
    expect((await refused('operator', { kind: 'invoices', format: 'csv', from: '2026-02-01', to: '2026-01-01' })).status).toBe(
      400,
    )
  })
})

describe('the worker', () => {
  test('takes over what a process left that died, from the beginning, and the dead one changes nothing any more', async () => {
    const { db } = billing.database
    const { id } = await ask('operator', { kind: 'organizations', format: 'csv' }, ADMIN)
    const dead = (await claimExport(db, clock.now(), new Date(clock.now().getTime() + 60_000)))!
    await insertChunk(db, dead, 0, Buffer.from('half of a file'))
    await saveProgress(db, dead, { made: 700, planned: 1_500, leaseUntil: new Date(clock.now().getTime() + 60_000) })
    expect((await billing.call('operator', 'GET', `${ADMIN}/${id}`)).body).toMatchObject({
      state: 'running',
      progress: { made: 700, planned: 1_500 },
    })
    expect((await billing.call('operator', 'GET', `${ADMIN}/${id}/file`)).body).toMatchObject({
      code: 'conflict',
      state: 'running',
    })
    // Its lease still runs.
    expect(await makeNextExport(worker())).toBe(0)
    clock.advance(61_000)
    const second = (await claimExport(db, clock.now(), new Date(clock.now().getTime() + 60_000)))!
    expect(second).toMatchObject({ id, attempt: 2, made: 0 })
    const late = { made: 9, planned: 9, leaseUntil: clock.now() }
    expect(await saveProgress(db, dead, late)).toBe(false)
    expect(await finishExport(db, dead, { made: 9, bytes: 9, error: null, now: clock.now() })).toBe(false)
    clock.advance(61_000)
    expect(await makeNextExport(worker())).toBe(1)
    expect((await bytesOf(id)).toString('utf8')).not.toContain('half of a file')
    expect((await billing.call('operator', 'GET', `${ADMIN}/${id}`)).body).toMatchObject({
      state: 'done',
      progress: { made: 1_500 },
    })
  })

  test('makes a ZIP anew whose process is killed once all of it is written, and leaves nothing of that attempt', async () => {
    const { db } = billing.context
    const { id } = await ask('seed_00009', { kind: 'invoices', format: 'zip' })
    const finishing = 'update exports set state = case'
    const query = ((text: string, values?: unknown[]) =>
      text.includes(finishing) ? Promise.reject(KILLED) : db.query(text, values)) as typeof db.query
    await expect(makeNextExport({ ...worker(), db: { ...db, query } })).rejects.toThrow('killed')
    const half = await bytesOf(id)
    const { body } = await billing.call('seed_00009', 'GET', `/api/v1/exports/${id}`)
    expect([body['state'], body['file_url'], half.length > 0]).toEqual(['running', null, true])
    clock.advance(61_000)
    expect(await makeNextExport(worker())).toBe(1)
    const made = (await billing.call('seed_00009', 'GET', `/api/v1/exports/${id}`)).body
    expect(made).toMatchObject({ state: 'done', progress: { made: 2, planned: 2 } })
    const { rows } = await db.query(
      'select attempt, sum(octet_length(data))::int as bytes from export_chunks where export_id = $1 group by attempt',
      [id],
    )
    expect(rows).toEqual([{ attempt: 2, bytes: made['bytes'] }])
    expect((await bytesOf(id)).toString('latin1').match(/%PDF-1\.\d/g)).toHaveLength(2)
  })

  test('begins a file anew that a full disk broke off, once there is room', async () => {
    const { db } = billing.database
    const { id } = await ask('operator', { kind: 'organizations', format: 'csv' }, ADMIN)
    await db.query(
      `create function refuse_chunks() returns trigger language plpgsql as $$ begin raise 'no room' using errcode = '53100'; end $$;
       create trigger refuse_chunks before insert on export_chunks for each row execute function refuse_chunks()`,
    )
    await expect(makeNextExport(worker())).rejects.toMatchObject({ code: 'database_unavailable' })
    await db.query('drop function refuse_chunks cascade')
    clock.advance(61_000)
    expect(await makeNextExport(worker())).toBe(1)
    expect((await billing.call('operator', 'GET', `${ADMIN}/${id}`)).body).toMatchObject({ state: 'done' })
  })

  test('sends the file piece by piece, under its name', async () => {
    const made = await make('operator', { kind: 'invoices', format: 'csv' }, ADMIN)
    const { db } = billing.database
    const rows = await db.query<{ organizationId: string; id: string; attempt: number }>(
      'select organization_id as "organizationId", id, attempt from exports where id = $1',
      [made.id],
    )
    // 3,000 invoices are more than one piece.
    expect(await readChunk(db, rows.rows[0]!, 1)).not.toBeNull()
    const answer = await billing.fetch('operator', made.file_url!)
    expect(answer.headers.get('content-disposition')).toBe('attachment; filename="invoices-2026-03-10.csv"')
    expect(answer.headers.get('content-type')).toBe('text/csv; charset=utf-8')
    expect(Buffer.from(await answer.arrayBuffer())).toEqual(await bytesOf(made.id))
  })

  test('breaks a download off that cannot be whole, and never ends one early', async () => {
    const made = await make('operator', { kind: 'invoices', format: 'csv' }, ADMIN)
    const { db } = billing.database
    await db.query('delete from export_chunks where export_id = $1 and number > 0', [made.id])
    const answer = await billing.fetch('operator', made.file_url!)
    expect(Number(answer.headers.get('content-length'))).toBe(made.bytes)
    await expect(answer.arrayBuffer()).rejects.toThrow('is not there any more')
  })

  test('gives a file back that it has not finished when the server is stopped, to be begun anew at once', async () => {
    const { id } = await ask('operator', { kind: 'invoices', format: 'csv' }, ADMIN)
    expect(await makeNextExport(worker(), AbortSignal.abort())).toBe(1)
    expect((await billing.call('operator', 'GET', `${ADMIN}/${id}`)).body).toMatchObject({
      state: 'queued',
      progress: { made: 0, planned: null },
      file_url: null,
    })
    for (let stopped = 0; stopped < 9; stopped += 1) await makeNextExport(worker(), AbortSignal.abort())
    // To be stopped is no failed attempt.
    expect(await makeNextExport(worker())).toBe(1)
    const made = (await billing.call('operator', 'GET', `${ADMIN}/${id}`)).body
    expect(made).toMatchObject({ state: 'done', progress: { made: 3_000 } })
    expect((await bytesOf(id)).length).toBe(made['bytes'])
  })

  test('refuses the sixth that is not finished, and says why what cannot be made failed', async () => {
    const body = { kind: 'invoices', format: 'csv' }
    for (let count = 0; count < 5; count += 1) await ask('seed_00007', body)
    expect(await billing.call('seed_00007', 'POST', '/api/v1/exports', body)).toMatchObject({
      status: 409,
      body: { code: 'conflict' },
    })
    while ((await makeNextExport(worker())) > 0);
    await billing.database.db.query('alter table mrr_movements rename to away')
    const { id } = await make('operator', { kind: 'revenue_movements', format: 'csv' }, ADMIN)
    await billing.database.db.query('alter table away rename to mrr_movements')
    expect((await billing.call('operator', 'GET', `${ADMIN}/${id}`)).body).toMatchObject({
      state: 'failed',
      error: 'The file could not be made; the log says why.',
    })
  })

  test('gives up what takes down whoever makes it, and says so', async () => {
    const { id } = await ask('operator', { kind: 'organizations', format: 'csv' }, ADMIN)
    const { db } = billing.database
    for (let attempt = 1; attempt <= 5; attempt += 1) {
      const leaseUntil = new Date(clock.now().getTime() + 60_000)
      expect(await db.transaction((tx) => claimExport(tx, clock.now(), leaseUntil))).toMatchObject({ id, attempt })
      clock.advance(61_000)
    }
    expect(await makeNextExport(worker())).toBe(0)
    expect((await billing.call('operator', 'GET', `${ADMIN}/${id}`)).body).toMatchObject({
      state: 'failed',
      error: expect.stringContaining('each attempt ended before its time'),
    })
  })

  test('forgets files after a week', async () => {
    const { id } = await make('operator', { kind: 'organizations', format: 'csv', to: '2025-01-02' }, ADMIN)
    clock.advance(8 * 86_400_000)
    for (const job of exportJobs(worker())) await job.run()
    expect((await billing.call('operator', 'GET', `${ADMIN}/${id}`)).status).toBe(404)
    expect((await bytesOf(id)).length).toBe(0)
  })
})
