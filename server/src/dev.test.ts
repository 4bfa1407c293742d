import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { PATIENCE } from '../test/patience.ts'
import { runCli, runScript, spawnScript, startProgram, variablesFor } from '../test/program.ts'
import { seedCluster } from '../test/seed-cluster.ts'
import { openDataDirectory } from './data-directory.ts'
import { findRunningPostgres } from './db/embedded-postgres.ts'
import { readRuntime, type Runtime } from './runtime-file.ts'

// Servers are started by the dozen here, on machines that may be busy.
vi.setConfig({ testTimeout: 60_000 })

const seed = seedCluster()
let parent: string
let dataDir: string
let env: Record<string, string>
let children: ChildProcess[]

beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'tollgate-dev-'))
  chmodSync(parent, 0o711)
  dataDir = join(parent, 'data')
  openDataDirectory(dataDir)
  seed.copyTo(join(dataDir, 'postgres'))
  env = variablesFor(dataDir)
  children = []
})

afterEach(async () => {
  for (const child of children) if (child.exitCode === null && child.signalCode === null) await end(child, 'SIGTERM')
  rmSync(parent, { recursive: true, force: true, maxRetries: 10 })
})

async function start(script?: string[]): Promise<Runtime & { child: ChildProcess; out: () => string }> {
  const { child, out } = await startProgram(env, script)
  children.push(child)
  return { ...readRuntime(dataDir)!, child, out }
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  const gone = once(child, 'exit')
  child.kill(signal)
  const [code] = (await gone) as [number | null]
  return code
}

describe('tollgate dev', () => {
  it('starts everything, keeps its secrets to itself, and stops everything on Ctrl-C', async () => {
    const { child, url, sandboxUrl, operatorKey, out } = await start()
    expect((await fetch(`${url}/readyz`)).status).toBe(200)
    expect((await fetch(`${sandboxUrl}/v1/products`, { headers: { authorization: 'Bearer sk_test_x' } })).status).toBe(200)
    expect(out()).toContain(operatorKey)
    for (const secret of ['runtime.json', 'operator-key', 'webhook-secret', 'stripe-sandbox.sqlite']) {
      expect(statSync(join(dataDir, secret)).mode & 0o077).toBe(0)
    }
    const logged = out()
      .split('\n')
      .filter((line) => line.startsWith('{'))
    expect(logged.length).toBeGreaterThan(0)
    expect(logged.join('\n')).not.toContain(operatorKey)
    expect(await end(child, 'SIGINT')).toBe(0)
    expect(findRunningPostgres(join(dataDir, 'postgres'))).toBeNull()
    expect(readRuntime(dataDir)).toBeNull()
    await expect(fetch(`${url}/healthz`)).rejects.toThrow('fetch failed')
  })

  it('MR-14 OC-10 works without Stripe when it is told to: no sandbox, reads answer, what needs Stripe says 503', async () => {
    env = { ...env, STRIPE_ENABLED: 'false' }
    const { url, sandboxUrl, operatorKey, out } = await start()
    expect([sandboxUrl, out().includes('STRIPE_ENABLED=false')]).toEqual([null, true])
    const call = (path: string, init: RequestInit = {}) =>
      fetch(`${url}/api/v1/${path}`, { ...init, headers: { 'x-api-key': operatorKey, 'content-type': 'application/json' } })
    expect(await (await call('billing/config')).json()).toMatchObject({ stripe_enabled: false })
    await call('organizations', {
      method: 'POST',
      body: JSON.stringify({ id: 'basic', name: 'Basic', email: 'basic@example.com' }),
    })
    expect((await call('billing/subscription?organization_id=basic')).status).toBe(200)
    const post = async (path: string, body: object) => (await call(path, { method: 'POST', body: JSON.stringify(body) })).status
    expect(await post('billing/checkout', { organization_id: 'basic', tier: 'PRO' })).toBe(503)
    // No price is known here, and that is not what is wrong.
    expect(await post('billing/subscriptions', { tenant_id: 'basic', price_id: 'price_x' })).toBe(503)
    const shown = await vi.waitFor(() => /-d '(\{.*\})'/.exec(out())![1]!, PATIENCE)
    expect([shown, await post('organizations', JSON.parse(shown) as object)]).toEqual([shown, 201])
  })

  it('finds its data again: organizations, operator key, prices at the sandbox', async () => {
    const first = await start()
    const created = await runCli(['orgs', 'create', 'Acme', 'a@example.com', '--id', 'acme', '--json'], env)
    expect(JSON.parse(created.out)).toMatchObject({ id: 'acme' })
    await end(first.child, 'SIGTERM')
    const second = await start()
    expect(second.operatorKey).toBe(first.operatorKey)
    expect((await runCli(['orgs', 'list'], env)).out).toContain('acme')
    expect((await runCli(['push', '--dry-run'], env)).out).toMatch(/would change +0/)
    expect(second.out()).not.toContain('migrations applied')
  })

  it('says in a sentence that its sandbox cannot have the file', async () => {
    writeFileSync(join(dataDir, 'stripe-sandbox.sqlite'), 'of something else')
    const { code, err } = await runCli(['dev'], env)
    expect([code, err]).toEqual([
      1,
      expect.stringMatching(/^The data file .*stripe-sandbox\.sqlite is in use .*TOLLGATE_DATA_DIR\.\n$/),
    ])
  })

  it('survives a SIGKILL: the next start adopts PostgreSQL and loses nothing', async () => {
    const first = await start()
    await runCli(['orgs', 'create', 'Acme', 'a@example.com', '--id', 'acme'], env)
    await end(first.child, 'SIGKILL')
    expect(findRunningPostgres(join(dataDir, 'postgres'))).not.toBeNull()
    await start()
    expect((await runCli(['orgs', 'show', 'acme'], env)).out).toContain('a@example.com')
  })

  it('stopped under load, has counted exactly what it answered', async () => {
    const first = await start()
    await runCli(['orgs', 'create', 'Acme', 'a@example.com', '--id', 'acme'], env)
    let answered = 0
    const track = async (url: string, key: string): Promise<boolean> => {
      const body = JSON.stringify({ organization_id: 'acme', meter: 'episode_ingestion', idempotency_key: crypto.randomUUID() })
      const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
      const response = await fetch(`${url}/api/v1/usage/track`, { method: 'POST', headers, body }).catch(() => null)
      await response?.text()
      if (response?.status === 200) answered += 1
      return response?.status === 200
    }
    const stopping: Promise<number | null>[] = []
    const callers = Array.from({ length: 16 }, async () => {
      while (await track(first.url, first.operatorKey)) {
        if (answered >= 300 && stopping.length === 0) stopping.push(end(first.child, 'SIGTERM'))
      }
    })
    await Promise.all(callers)
    expect(await Promise.all(stopping)).toEqual([0])
    const counted = answered
    const second = await start()
    const headers = { authorization: `Bearer ${second.operatorKey}` }
    const usage = await fetch(`${second.url}/api/v1/usage?organization_id=acme`, { headers })
    expect(await usage.json()).toMatchObject({ credits_used: counted })
  })

  it('told to stop while it starts, leaves nothing running', async () => {
    const child = spawnScript(['server/src/cli/main.ts', 'dev'], env)
    children.push(child)
    const postgres = join(dataDir, 'postgres')
    await vi.waitFor(() => expect(findRunningPostgres(postgres)).not.toBeNull(), { ...PATIENCE, interval: 5 })
    expect(await end(child, 'SIGINT')).toBe(0)
    expect(findRunningPostgres(postgres)).toBeNull()
  })

  it('refuses to start beside another on the same data, which goes on', async () => {
    const first = await start()
    const refused = await runCli(['dev'], env)
    expect(refused.code).toBe(1)
    expect(refused.err).toContain(`Another running server (process ${first.pid}) uses ${join(dataDir, 'postgres')}.`)
    expect(readRuntime(dataDir)?.pid).toBe(first.pid)
    expect((await fetch(`${first.url}/readyz`)).status).toBe(200)
  })

  it('says which port is taken, and leaves nothing running', async () => {
    const squatter = createServer().listen(0, '127.0.0.1')
    await once(squatter, 'listening')
    const address = squatter.address()
    const port = typeof address === 'object' ? address!.port : 0
    const server = await runCli(['dev'], { ...env, PORT: String(port) })
    const sandbox = await runCli(['dev'], { ...env, TOLLGATE_SANDBOX_PORT: String(port) })
    squatter.close()
    expect([server.code, server.err]).toEqual([
      1,
      `Port ${port} on 127.0.0.1 is taken. Set PORT to another, or stop what listens there.\n`,
    ])
    expect([sandbox.code, sandbox.err]).toEqual([
      1,
      `Port ${port}, where the Stripe sandbox listens, is taken. Set TOLLGATE_SANDBOX_PORT to another.\n`,
    ])
    expect(findRunningPostgres(join(dataDir, 'postgres'))).toBeNull()
  })
})

describe('npm run example', () => {
  it('serves a host with Tollgate in its own process', async () => {
    const { url, operatorKey } = await start(['scripts/example.ts', 'episodic-memory'])
    await runCli(['orgs', 'create', 'Acme', 'a@example.com', '--id', 'acme'], env)
    const made = await runCli(['keys', 'create', 'acme', 'app', '--json'], env)
    const { key } = JSON.parse(made.out) as { key: string }
    const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' }
    const captured = await fetch(`${url}/api/v1/capture`, { method: 'POST', headers, body: '{"text": "hello"}' })
    expect([captured.status, captured.headers.get('x-credits-remaining')]).toEqual([200, '99'])
    expect((await fetch(`${url}/api/v1/capture`, { method: 'POST', headers, body: '{}' })).status).toBe(400)
    const searched = await fetch(`${url}/api/search`, { method: 'POST', headers, body: '{"query": "hell"}' })
    expect([await searched.json(), searched.headers.get('x-credits-remaining')]).toEqual([{ episodes: ['hello'] }, '98.9'])
    const organizations = await fetch(`${url}/api/v1/organizations`, { headers: { authorization: `Bearer ${operatorKey}` } })
    expect(organizations.status).toBe(200)
  })

  it('names the examples there are', async () => {
    const { code, err } = await runScript(['scripts/example.ts', 'no-such-example'], env)
    expect([code, err]).toEqual([2, expect.stringContaining('episodic-memory')])
  })
})

describe('tollgate', () => {
  it('says which variables are wrong, and why', async () => {
    const wrong = { ...env, PORT: 'http', STRIPE_SECRET_KEY: 'sk_test_1', STRIPE_API_KEY: 'sk_test_2' }
    const { code, err } = await runCli(['dev'], wrong)
    expect(code).toBe(1)
    expect(err).toContain('PORT is wrong: a port number is expected.')
    expect(err).toContain('STRIPE_API_KEY and STRIPE_SECRET_KEY are two names of one variable, and they differ')
  })

  it('ends with 2 when it is used wrongly, and 1 when no server runs', async () => {
    expect((await runCli(['orgs', 'create', 'Acme'], env)).code).toBe(2)
    const alone = await runCli(['orgs', 'list'], env)
    expect([alone.code, alone.err]).toEqual([1, expect.stringContaining('No server is running here.')])
  })

  it('migrates, pushes and examines also when no server runs', async () => {
    expect(JSON.parse((await runCli(['migrate', '--json'], env)).out)).toMatchObject({
      applied: expect.arrayContaining(['0001_platform.sql']) as unknown,
    })
    const pushed = await runCli(['push'], env)
    expect(pushed.out).toContain('+ price of plan pro, monthly: 29.00 usd')
    expect((await runCli(['push', '--json'], env)).out).toContain('"changed": 0')
    const doctor = await runCli(['doctor'], env)
    expect([doctor.code, doctor.out]).toEqual([0, expect.stringMatching(/database +true +PostgreSQL 18.*, embedded; migrated/)])
    const broken = await runCli(['doctor'], { ...env, TOLLGATE_CATALOG: 'nowhere.ts' })
    expect([broken.code, broken.out]).toEqual([1, expect.stringContaining('There is no nowhere.ts')])
  })

  it('asks for no administrator where the migration makes the roles', async () => {
    const { code, out } = await runCli(['doctor'], env)
    expect([code, out]).toEqual([0, expect.stringMatching(/row-level security +true +tollgate migrate brings it about/)])
  })

  it('examines a place where nothing was started yet, finds no fault in that, and leaves nothing there', async () => {
    const empty = join(parent, 'empty')
    const doctor = await runCli(['doctor'], variablesFor(empty))
    expect([doctor.code, doctor.out]).toEqual([
      0,
      expect.stringMatching(/database +true +none is here yet: "tollgate dev" makes one/),
    ])
    expect(existsSync(empty)).toBe(false)
    const off = await runCli(['doctor'], variablesFor(empty, { STRIPE_ENABLED: 'false' }))
    expect(off.out).toMatch(/stripe +true +none: STRIPE_ENABLED=false/)
  })

  it('starts a production server only with a database of its own', async () => {
    const { code, err } = await runCli(['start'], env)
    expect([code, err]).toEqual([1, expect.stringContaining('DATABASE_URL is missing')])
  })
})
