import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startSandbox, type Sandbox } from '../../../sandbox/src/index.ts'
import { testDatabase } from '../../test/database.ts'
import { startPooler } from '../../test/pooler.ts'
import { examine, type Finding } from './doctor.ts'

const database = testDatabase()
const directory = mkdtempSync(join(tmpdir(), 'tollgate-doctor-'))
let sandbox: Sandbox

beforeAll(async () => {
  sandbox = await startSandbox({ seed: 'doctor' })
  const { protocol, host, port } = sandbox
  const runtime = { url: NOWHERE, operatorKey: 'none', sandboxUrl: `${protocol}://${host}:${port}`, pid: process.pid }
  writeFileSync(join(directory, 'runtime.json'), JSON.stringify(runtime))
})
afterAll(async () => {
  await sandbox.stop()
  rmSync(directory, { recursive: true, force: true })
})

/** Nobody listens there: it is kept for who throws away what is sent (RFC 863). */
const NOWHERE = 'http://127.0.0.1:9'
const OF_THE_DATABASE = ['database', 'row-level security', 'clock', 'webhooks']
const EVERYTHING = ['node', 'configuration', 'catalog', 'database', 'row-level security', 'clock', 'stripe', 'products']
EVERYTHING.push('taxes', 'webhooks', 'addresses', 'fonts', 'server')

const variables = { TOLLGATE_DATA_DIR: directory, TOLLGATE_CATALOG: 'examples/episodic-memory/billing.config.ts' }
const ofDatabase = (findings: readonly Finding[]) => findings.filter(({ check }) => OF_THE_DATABASE.includes(check))

/** A line to the database, which counts who takes it. */
async function lineTo(url: string) {
  const target = new URL(url)
  const { hostname, port } = target
  let taken = 0
  const server = createServer((socket) => {
    taken += 1
    const onward = connect(Number(port), hostname)
    socket.pipe(onward).pipe(socket)
    for (const end of [socket, onward]) end.on('error', () => undefined)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  target.port = String((server.address() as AddressInfo).port)
  return { url: target.href, taken: () => taken, close: () => void server.close() }
}

it('opens the database once for all that it looks at there', async () => {
  const line = await lineTo(database.url)
  const findings = await examine({ ...variables, DATABASE_URL: line.url })
  line.close()
  expect(findings.map(({ check }) => check)).toEqual(EVERYTHING)
  expect(ofDatabase(findings)).toEqual([
    { check: 'database', ok: true, detail: expect.stringMatching(/^PostgreSQL .*, of DATABASE_URL; migrated$/) },
    { check: 'row-level security', ok: true, detail: expect.stringMatching(/^on: /) },
    { check: 'clock', ok: true, detail: 'of one time with the database' },
    { check: 'webhooks', ok: true, detail: expect.stringMatching(/^0 events of the last day came by webhook/) },
  ])
  // Twice more to see whether sessions are kept apart.
  expect(line.taken()).toBe(3)
})

it('finds fault with a database that a newer version has migrated, on which this one does not start', async () => {
  await database.db.query(`insert into schema_migrations (name, checksum) values ('9999_newer.sql', '')`)
  const findings = await examine({ ...variables, DATABASE_URL: database.url })
  await database.db.query(`delete from schema_migrations where name = '9999_newer.sql'`)
  const detail = expect.stringContaining('A newer version has migrated the database') as unknown
  expect(findings.find(({ check }) => check === 'database')).toEqual({ check: 'database', ok: false, detail })
})

it('finds fault with a pooler that lends its connections by the transaction', async () => {
  const pooler = await startPooler(database.url)
  const findings = await examine({ ...variables, DATABASE_URL: pooler.url })
  await pooler.stop()
  const detail = expect.stringContaining('Use the address of PostgreSQL itself') as unknown
  expect(findings.find(({ check }) => check === 'database')).toEqual({ check: 'database', ok: false, detail })
})

it('says of each thing that it would look at in a database that it cannot be reached, and examines the rest', async () => {
  const findings = await examine({ ...variables, DATABASE_URL: 'postgres://nobody@127.0.0.1:9/none' })
  const detail = expect.stringContaining('ECONNREFUSED 127.0.0.1:9') as unknown
  expect(ofDatabase(findings)).toEqual(OF_THE_DATABASE.map((check) => ({ check, ok: false, detail })))
  expect(findings.filter(({ ok }) => ok).map(({ check }) => check)).toEqual([
    'node',
    'configuration',
    'catalog',
    'stripe',
    'taxes',
    'addresses',
    'fonts',
    'server',
  ])
})

it('finds fault with a font without which the server does not start', async () => {
  const fonts = async (named: string) =>
    (await examine({ ...variables, TOLLGATE_PDF_FONTS: named })).find(({ check }) => check === 'fonts')
  const font = fileURLToPath(import.meta.resolve('dejavu-fonts-ttf/ttf/DejaVuSerif.ttf'))
  writeFileSync(join(directory, 'none.ttf'), 'no font')
  expect(await fonts(`${font}, `)).toEqual({
    check: 'fonts',
    ok: true,
    detail: '1 of TOLLGATE_PDF_FONTS beside those of every PDF',
  })
  for (const wrong of [directory, join(directory, 'none.ttf'), join(directory, 'missing.ttf')]) {
    const detail = expect.stringContaining(`${wrong} cannot be read as a font of PDFs`) as unknown
    expect(await fonts(`${font},${wrong}`)).toEqual({ check: 'fonts', ok: false, detail })
  }
})

it('says the same of one that cannot be started', async () => {
  writeFileSync(join(directory, 'postgres'), 'no folder')
  const findings = await examine(variables)
  expect(findings.map(({ check }) => check)).toEqual(EVERYTHING)
  const detail = expect.stringContaining('ENOTDIR') as unknown
  expect(ofDatabase(findings)).toEqual(OF_THE_DATABASE.map((check) => ({ check, ok: false, detail })))
})
