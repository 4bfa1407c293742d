import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test, vi } from 'vitest'
import { PATIENCE } from '../test/patience.ts'
import { startProgram, variablesFor } from '../test/program.ts'
import { findAccount } from './db/postgres-binaries.ts'
import { SYSTEM_ROLE, TENANT_ROLE } from './db/row-security.ts'
import { readRuntime } from './runtime-file.ts'

// A live database is dumped and restored into a cluster that knows nothing of it, as docs/operations.md tells.

vi.setConfig({ testTimeout: 180_000, hookTimeout: 60_000 })
const ROLES = `create role ${TENANT_ROLE} nologin; create role ${SYSTEM_ROLE} nologin`
const account = findAccount()
const directory = mkdtempSync(join(tmpdir(), 'tollgate-restore-'))
chmodSync(directory, 0o755)
const running: ChildProcess[] = []

afterAll(async () => {
  for (const child of running.toReversed()) await stop(child)
  rmSync(directory, { recursive: true, force: true })
})

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  child.kill('SIGINT')
  await ended
}

/** Where PostgreSQL's server and its tools are, all of one version; null where they are not installed. */
function findTools(): string | null {
  const script = `for d in $(echo "$PATH" | tr ':' ' ') /usr/lib/postgresql/*/bin; do
    [ -x "$d/initdb" ] && [ -x "$d/pg_dump" ] && [ -x "$d/pg_restore" ] && [ -x "$d/psql" ] && echo "$d" && break; done`
  const found = spawnSync('/bin/sh', ['-c', script], { encoding: 'utf8' }).stdout.trim()
  return found === '' ? null : found
}

type Cluster = { readonly socket: string; readonly url: string; readonly sql: (statement: string) => void }

async function startCluster(tools: string, name: string): Promise<Cluster> {
  const socket = join(directory, name)
  const run = (tool: string, args: readonly string[]) => runTool(tools, tool, args)
  mkdirSync(socket)
  if (account !== null) chownSync(socket, account.uid, account.gid)
  run('initdb', ['-D', join(socket, 'data'), '-U', 'owner', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'])
  const args = ['-D', join(socket, 'data'), '-k', socket, '-c', 'listen_addresses=', '-c', 'fsync=off']
  running.push(spawn(join(tools, 'postgres'), args, { ...account, cwd: '/', stdio: 'ignore' }))
  const sql = (statement: string) =>
    run('psql', ['-h', socket, '-U', 'owner', '-v', 'ON_ERROR_STOP=1', '-c', statement, 'postgres'])
  await vi.waitFor(() => sql('create database tollgate'), { ...PATIENCE, interval: 100 })
  return { socket, url: `postgresql://owner@localhost/tollgate?host=${socket}`, sql }
}

function runTool(tools: string, tool: string, args: readonly string[]): void {
  const { status, stderr } = spawnSync(join(tools, tool), args, { ...account, cwd: '/', encoding: 'utf8' })
  if (status !== 0) throw new Error(`${tool}: ${stderr}`)
}

type Call = (method: string, path: string, body?: object, key?: string) => Promise<unknown>

/** Starts a server over a cluster, with the sandbox of this test's own directory. */
async function startServer({ url }: Cluster): Promise<{ call: Call; child: ChildProcess }> {
  const data = join(directory, 'data')
  const { child } = await startProgram(variablesFor(data, { DATABASE_URL: url }))
  running.push(child)
  const runtime = readRuntime(data)!
  const call: Call = async (method, path, body, key = runtime.operatorKey) => {
    const response = await fetch(runtime.url + path, {
      method,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    expect(response.status, `${method} ${path}: ${text}`).toBeLessThan(300)
    // The sandbox's port is another after each start, and Stripe is asked again meanwhile.
    return JSON.parse(text.replaceAll(String(runtime.sandboxUrl), 'sandbox').replaceAll(/,"synced_at":"[^"]*"/g, '')) as unknown
  }
  return { call, child }
}

const PATHS = [
  '/api/v1/billing/subscription',
  '/api/v1/balances',
  '/api/v1/usage',
  '/api/v1/usage/events',
  '/api/v1/billing/payment-methods',
  '/api/v1/billing/add-ons',
]
const use = (n: number) => ({ meter: 'episode_search', quantity: 1, idempotency_key: `use-${n}` })

async function restores(tools: string): Promise<void> {
  const [before, after] = [await startCluster(tools, 'before'), await startCluster(tools, 'after')]
  const first = await startServer(before)
  const acme = { id: 'acme', name: 'Acme', email: 'billing@example.com', test_clock: true }
  await first.call('POST', '/api/v1/organizations', acme)
  const { key } = (await first.call('POST', '/api/v1/organizations/acme/api-keys', {
    name: 'application',
    scopes: ['read', 'write', 'admin'],
  })) as { key: string }
  await first.call('POST', '/api/v1/billing/subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' }, key)
  for (let n = 0; n < 20; n += 1) await first.call('POST', '/api/v1/usage/consume', use(n), key)
  const answers = (call: Call) => Promise.all(PATHS.map((path) => call('GET', path, undefined, key)))
  const told = await answers(first.call)

  // While it runs.
  const dump = join(before.socket, 'tollgate.dump')
  runTool(tools, 'pg_dump', ['-h', before.socket, '-U', 'owner', '-Fc', '-f', dump, 'tollgate'])
  await stop(first.child)
  after.sql(ROLES)
  runTool(tools, 'pg_restore', ['-h', after.socket, '-U', 'owner', '-d', 'tollgate', '--exit-on-error', dump])

  const { call } = await startServer(after)
  expect(await answers(call)).toEqual(told)
  // Keys of uses are known, sequences go on, partitions take what comes, tenants are kept apart, and Stripe is followed.
  const [repeated, fresh] = [
    await call('POST', '/api/v1/usage/consume', use(3), key),
    await call('POST', '/api/v1/usage/consume', use(20), key),
  ]
  expect([repeated, fresh]).toMatchObject([{ total_credits_used: 0.4 }, { total_credits_used: 2.1 }])
  await call('GET', '/readyz')
  await call('POST', '/api/v1/billing/upgrade', { new_tier: 'enterprise' }, key)
  await call('POST', '/api/v1/organizations/acme/clock/advance', { by: '32d' })
  expect(await call('GET', '/api/v1/billing/subscription', undefined, key)).toMatchObject({
    tier: 'ENTERPRISE',
    status: 'active',
  })
  await call('POST', '/api/v1/organizations', { id: 'beta', name: 'Beta', email: 'beta@example.com' })
}

test('a database that is restored elsewhere starts, answers as before and goes on, where PostgreSQL’s tools are installed', async () => {
  const tools = findTools()
  if (tools !== null) await restores(tools)
  // The steps are those that are written down.
  const operations = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8')
  for (const step of [ROLES.split(';')[0]!, 'pg_dump -Fc', 'pg_restore', '--exit-on-error']) expect(operations).toContain(step)
})
