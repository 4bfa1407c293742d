import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ChildProcess } from 'node:child_process'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { runCli, startProgram, variablesFor } from '../../test/program.ts'
import { seedCluster } from '../../test/seed-cluster.ts'
import { importCatalogDefinition } from '../catalog/registry.ts'
import { openDataDirectory } from '../data-directory.ts'
import { findRunningPostgres } from '../db/embedded-postgres.ts'
import { readRuntime, type Runtime } from '../runtime-file.ts'

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

const seed = seedCluster()
let parent: string
let env: Record<string, string>
let child: ChildProcess
let runtime: Runtime

beforeAll(async () => {
  parent = mkdtempSync(join(tmpdir(), 'tollgate-cli-'))
  chmodSync(parent, 0o711)
  const dataDir = join(parent, 'data')
  openDataDirectory(dataDir)
  seed.copyTo(join(dataDir, 'postgres'))
  env = variablesFor(dataDir)
  child = (await startProgram(env)).child
  runtime = readRuntime(dataDir)!
  await runCli(['orgs', 'create', 'Acme', 'a@example.com', '--id', 'acme', '--test-clock'], env)
  await post('/api/v1/billing/subscribe', { organization_id: 'acme', tier: 'pro', payment_method_id: 'pm_card_visa' })
})

afterAll(async () => {
  const gone = once(child, 'exit')
  child.kill('SIGTERM')
  await gone
  rmSync(parent, { recursive: true, force: true, maxRetries: 10 })
})

async function post(path: string, body: object): Promise<Record<string, unknown>> {
  const headers = { authorization: `Bearer ${runtime.operatorKey}`, 'content-type': 'application/json' }
  const response = await fetch(runtime.url + path, { method: 'POST', headers, body: JSON.stringify(body) })
  if (!response.ok) throw new Error(`${path} answered ${response.status}: ${await response.text()}`)
  return (await response.json()) as Record<string, unknown>
}

async function json<Answer = Record<string, unknown>>(...args: string[]): Promise<Answer> {
  const { code, out, err } = await runCli([...args, '--json'], env)
  expect({ code, err }).toEqual({ code: 0, err: '' })
  return JSON.parse(out) as Answer
}

test('an operator is made, and unmade, by the address', async () => {
  await post('/api/v1/auth/sign-up', { email: 'ada@example.com', password: 'correct horse battery staple', name: 'Ada' })
  expect(await json('users', 'operator', 'ada@example.com')).toMatchObject({ email: 'ada@example.com', operator: true })
  expect(await json('users', 'list', '--email', 'ada@example.com')).toMatchObject([{ operator: true }])
  expect(await json('users', 'operator', 'ada@example.com', '--remove')).toMatchObject({ operator: false })
  const [first] = await json<{ id: string }[]>('users', 'list')
  expect(await json('users', 'list', '--after', first!.id)).toEqual([])
  const unknown = await runCli(['users', 'operator', 'nobody@example.com'], env)
  expect(unknown).toMatchObject({ code: 1, err: expect.stringContaining('There is no user with the address') })
})

test('the doctor finds what is right, and tells of webhooks that were refused for their signature', async () => {
  await fetch(`${runtime.url}/api/v1/billing/webhook`, {
    method: 'POST',
    headers: { 'stripe-signature': 't=1,v1=0' },
    body: '{}',
  })
  const findings = await json<{ check: string; ok: boolean; detail: string }[]>('doctor')
  const of = (check: string) => findings.find((finding) => finding.check === check)
  expect(findings.filter(({ ok }) => !ok)).toEqual([])
  expect(of('products')?.detail).toBe('the catalog is at Stripe as it is here')
  expect(of('webhooks')?.detail).toMatch(/[1-9]\d* events of the last day came by webhook.*; 1 were refused for their signature/)
  expect(of('clock')?.detail).toBe('of one time with the database')
})

describe('what is made is made once under an --idempotency-key', () => {
  test('an organization, and a key, which the repeat shows anew', async () => {
    const create = () => json('orgs', 'create', 'Once', 'o@example.com', '--idempotency-key', 'organization')
    const { id } = await create()
    expect((await create())['id']).toBe(id)
    const show = () => json('keys', 'create', String(id), 'app', '--idempotency-key', 'app')
    const lost = await show()
    const shown = await show()
    expect([shown['id'], shown['key'] === lost['key']]).toEqual([lost['id'], false])
    expect(await json('keys', 'list', String(id))).toHaveLength(1)
  })
})

describe('what a change would mean', () => {
  test('an upgrade and a cancellation are previewed and not made', async () => {
    expect(await json('preview', 'upgrade', 'acme', '--plan', 'enterprise')).toMatchObject({
      kind: 'switch_now',
      direction: 'upgrade',
      amount_due_now_minor: 17_000,
    })
    expect(await json('preview', 'cancel', 'acme')).toMatchObject({ kind: 'cancel_at_period_end' })
    const wrong = await runCli(['preview', 'upgrade', 'acme', '--plan', 'gold'], env)
    expect(wrong).toMatchObject({ code: 1, err: expect.stringContaining('There is no plan "gold"') })
    expect((await runCli(['preview', 'upgrade', 'acme'], env)).code).toBe(2)
  })

  test('migrations tell that nobody is left behind', async () => {
    expect(await json('migrations', 'preview')).toMatchObject({ organizations: 0, moves: [] })
    expect(await runCli(['migrations', 'start', 'New prices'], env)).toMatchObject({ code: 1 })
  })

  test('recorded use is replayed against another catalog', async () => {
    await post('/api/v1/usage/track', {
      organization_id: 'acme',
      meter: 'episode_ingestion',
      quantity: 30,
      idempotency_key: 'one',
    })
    const file = join(parent, 'other.config.ts')
    const definition = await importCatalogDefinition('examples/episodic-memory/billing.config.ts')
    const pro = {
      name: 'Pro',
      prices: { monthly: { amountMinor: 1000 } },
      allowances: { credits: { amount: 10, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: 5 } } },
    }
    writeFileSync(file, `export default ${JSON.stringify({ ...definition, plans: { ...definition.plans, pro } })}`)
    const now = new Date().toISOString().slice(0, 7)
    const simulation = await json('simulate', file, '--from', now, '--organization', 'acme')
    expect(simulation).toMatchObject({
      present_minor: 2900,
      other_minor: 1100,
      customers: [{ organization_id: 'acme', difference_minor: -1800 }],
    })
    expect((await runCli(['simulate', file, '--from', now], env)).out).toContain('acme')
    expect((await runCli(['simulate', join(parent, 'nothing.ts'), '--from', now], env)).code).toBe(1)
  })
})

describe('exports', () => {
  test('are waited for and written to a file, over nothing', async () => {
    const file = join(parent, 'invoices.csv')
    expect(await json('export', 'invoices', '--organization', 'acme', '--out', file)).toMatchObject({ written: file })
    const [head, ...rows] = readFileSync(file, 'utf8').trim().split(/\r?\n/)
    expect(head).toContain('currency')
    expect(rows).toHaveLength(1)
    expect((await runCli(['export', 'invoices', '--out', file], env)).code).toBe(1)
    expect((await runCli(['export', 'nothing', '--out', join(parent, 'no.csv')], env)).code).toBe(1)
  })

  test('have the form that the name of the file says, else the one that the kind has', async () => {
    const [statement, report] = [join(parent, 'statement.pdf'), join(parent, 'report')]
    await json('export', 'usage_statement', '--organization', 'acme', '--out', statement)
    await json('export', 'analytics_report', '--out', report)
    for (const file of [statement, report]) expect(readFileSync(file).subarray(0, 5).toString()).toBe('%PDF-')
    const csv = join(parent, 'statement.txt')
    await json('export', 'usage_statement', '--organization', 'acme', '--format', 'csv', '--out', csv)
    expect(readFileSync(csv, 'utf8')).toMatch(/^day,meter,/)
    const other = await runCli(['export', 'organizations', '--out', join(parent, 'organizations.pdf')], env)
    expect(other).toMatchObject({ code: 1, err: expect.stringContaining('can be had as csv') })
  })
})

describe('Stripe', () => {
  test('is compared with, one organization or all, and tells what differed', async () => {
    expect(await json('reconcile', 'acme')).toEqual([])
    expect(await json('reconcile')).toMatchObject({ organizations: 1 })
    expect(await json('reconcile', '--all')).toMatchObject({ organizations: 1 })
    expect(await json('drift')).toEqual([])
    expect((await runCli(['reconcile', 'nobody'], env)).code).toBe(1)
  })

  test('trigger makes the sandbox send an event, and says which it knows', async () => {
    expect(await json<{ events: string[] }>('trigger', 'customer.created')).toMatchObject({ triggered: 'customer.created' })
    expect(await runCli(['trigger', 'no.such'], env)).toMatchObject({ code: 1 })
  })

  test('pull writes its plans as a catalog that loads, and writes over nothing', async () => {
    const file = join(parent, 'pulled.config.ts')
    expect(await json('pull', '--out', file)).toMatchObject({ plans: 3, written: file })
    const text = readFileSync(file, 'utf8')
    expect(text).toMatch(/STRIPE_PRICE_PRO_MONTHLY=price_/)
    // Where it is written here, the package's name is not to be found.
    const local = text.replace("'@tollgate/server/catalog'", `'${join(process.cwd(), 'server/src/catalog/define.ts')}'`)
    writeFileSync(join(parent, 'pulled-local.config.ts'), local)
    const definition = await importCatalogDefinition(join(parent, 'pulled-local.config.ts'))
    expect(definition.plans['pro']).toMatchObject({ name: 'Pro', prices: { monthly: { amountMinor: 2900 } } })
    expect((await runCli(['pull', '--out', file], env)).code).toBe(1)
  })

  test.each(['push', 'push --dry-run', 'pull', 'dev'])('%s keeps away from a live key unless told so', async (words) => {
    const live = { ...env, STRIPE_SECRET_KEY: `sk_live_${'0'.repeat(24)}`, STRIPE_WEBHOOK_SECRET: 'whsec_0' }
    const answer = await runCli(words.split(' '), live)
    expect(answer).toMatchObject({ code: 1, err: expect.stringContaining('is a live key: add --live') })
    expect(answer.err).not.toContain('sk_live_0')
  })
})

describe('a project', () => {
  test('begins with a catalog that loads, and never over one that is there', async () => {
    const directory = join(parent, 'new')
    expect(await json('init', directory)).toEqual({ written: [join(directory, 'billing.config.ts'), join(directory, '.env')] })
    const text = readFileSync(join(directory, 'billing.config.ts'), 'utf8')
    // No package lies beside it, or above.
    const { out } = await runCli(['doctor', '--json'], { ...env, TOLLGATE_CATALOG: join(directory, 'billing.config.ts') })
    expect((JSON.parse(out) as { check: string }[]).find(({ check }) => check === 'catalog')).toMatchObject({
      ok: true,
      detail: expect.stringMatching(/2 plans, 1 meters$/),
    })
    expect((await runCli(['init', directory], env)).code).toBe(1)
    expect(readFileSync(join(directory, 'billing.config.ts'), 'utf8')).toBe(text)
  })

  test('completion knows the commands, their commands and their options', async () => {
    const script = join(parent, 'completion.bash')
    writeFileSync(script, (await runCli(['completion', 'bash'], env)).out)
    const complete = (...words: string[]): string[] =>
      execFileSync(
        'bash',
        [
          '-c',
          `source ${script}; COMP_WORDS=(tollgate "$@"); COMP_CWORD=$#; _tollgate; printf '%s\\n' "\${COMPREPLY[@]}"`,
          'bash',
          ...words,
        ],
        { encoding: 'utf8' },
      )
        .trim()
        .split('\n')
    expect(complete('or')).toEqual(['orgs'])
    expect(complete('orgs', '')).toEqual(expect.arrayContaining(['create', 'list', 'show']))
    expect(complete('clock', 'advance', 'acme', '--')).toEqual(expect.arrayContaining(['--by', '--to', '--json']))
    for (const shell of ['zsh', 'fish']) {
      expect((await runCli(['completion', shell], env)).out).toContain('simulate')
    }
    expect((await runCli(['completion', 'tcsh'], env)).code).toBe(2)
    expect(existsSync(script)).toBe(true)
  })
})

describe('the audit log', () => {
  test('EM-14 is listed, exported and verified; the first entry that was changed is named', async () => {
    const [newest] = await json<{ id: string; action: string }[]>(
      'audit',
      'list',
      '--organization',
      'acme',
      '--action',
      'organization.created',
    )
    expect(newest).toMatchObject({ action: 'organization.created', organization_id: 'acme' })
    const exported = await runCli(['audit', 'export', '--organization', 'acme', '--format', 'csv'], env)
    expect(exported.out.split('\r\n')[0]).toMatch(/^id,at,organization_id,actor,/)
    expect(await json('audit', 'verify')).toMatchObject({ intact: true })

    const client = new pg.Client({ connectionString: findRunningPostgres(join(parent, 'data', 'postgres'))! })
    await client.connect()
    await client.query('set session_replication_role = replica')
    const change = (from: string, to: string) =>
      client.query(`update audit_log set after = jsonb_set(after, '{name}', $2) where id = $1 and after ->> 'name' = $3`, [
        newest!.id,
        JSON.stringify(to),
        from,
      ])
    expect((await change('Acme', 'Acmf')).rowCount).toBe(1)
    const found = await runCli(['audit', 'verify'], env)
    await change('Acmf', 'Acme')
    await client.end()
    expect(found.code).toBe(1)
    expect(found.err).toContain(`not intact, first at entry ${newest!.id}`)
  })
})
