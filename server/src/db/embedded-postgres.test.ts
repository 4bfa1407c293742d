import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { PATIENCE } from '../../test/patience.ts'
import { seedCluster } from '../../test/seed-cluster.ts'
import { findRunningPostgres, startEmbeddedPostgres, type EmbeddedPostgres } from './embedded-postgres.ts'
import { findAccount } from './postgres-binaries.ts'
import { livenessOf, readPostmaster } from './postmaster.ts'

const OWNER = fileURLToPath(new URL('../../test/postgres-owner.ts', import.meta.url))

// Servers are started by the dozen here, on machines that may be busy.
vi.setConfig({ testTimeout: 60_000 })

const seed = seedCluster()
let parent: string
let directory: string
let started: EmbeddedPostgres[]
let owners: ChildProcess[]

beforeEach(() => {
  parent = mkdtempSync(join(tmpdir(), 'tollgate-embedded-'))
  // As root, PostgreSQL runs under nobody, which has to pass through here.
  chmodSync(parent, 0o711)
  directory = join(parent, 'postgres')
  seed.copyTo(directory)
  started = []
  owners = []
})

afterEach(async () => {
  for (const owner of owners) owner.kill('SIGKILL')
  await Promise.all(started.map((postgres) => postgres.stop()))
  const left = readPostmaster(join(directory, 'data'))
  if (left && livenessOf(left.pid, join(directory, 'data')) === 'running') process.kill(left.pid, 'SIGKILL')
  rmSync(parent, { recursive: true, force: true, maxRetries: 10 })
})

async function start(): Promise<EmbeddedPostgres> {
  const postgres = await startEmbeddedPostgres({ directory })
  started.push(postgres)
  return postgres
}

/** A process of its own that owns the directory. */
async function startOwner(): Promise<{ child: ChildProcess; url: string; pid: number }> {
  const child = spawn(process.execPath, [OWNER, directory], { stdio: ['pipe', 'pipe', 'inherit'] })
  owners.push(child)
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  return { child, ...(JSON.parse(line.toString()) as { url: string; pid: number }) }
}

async function query<Row extends pg.QueryResultRow>(url: string, sql: string): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query<Row>(sql)).rows
  } finally {
    await client.end()
  }
}

describe('the embedded PostgreSQL', () => {
  it('keeps its data, its password and its port from one start to the next', async () => {
    const first = await start()
    await query(first.url, 'create table kept (id int)')
    await first.stop()
    const second = await start()
    expect(second.url).toBe(first.url)
    expect(second.adopted).toBe(false)
    expect(await query(second.url, 'select count(*)::int as count from kept')).toEqual([{ count: 0 }])
  })

  it('takes another port when its own is taken', async () => {
    const first = await start()
    await first.stop()
    const squatter = createServer().listen(first.port, '127.0.0.1')
    await once(squatter, 'listening')
    const second = await start().finally(() => squatter.close())
    expect(second.port).not.toBe(first.port)
    expect(await query(second.url, 'select 1 as one')).toEqual([{ one: 1 }])
  })

  it('is closed to strangers: loopback only, a password, private files, not root', async () => {
    const postgres = await start()
    const settings = await query(
      postgres.url,
      `select name, setting from pg_settings where name in ('listen_addresses', 'unix_socket_directories', 'unix_socket_permissions', 'fsync') order by name`,
    )
    expect(settings).toEqual([
      { name: 'fsync', setting: 'on' },
      { name: 'listen_addresses', setting: '127.0.0.1' },
      { name: 'unix_socket_directories', setting: directory },
      { name: 'unix_socket_permissions', setting: '0700' },
    ])
    for (const address of [postgres.url, postgres.tcpUrl]) {
      const stranger = new URL(address)
      stranger.password = 'wrong'
      await expect(query(stranger.href, 'select 1')).rejects.toThrow(/password authentication failed/)
    }
    expect(statSync(directory).mode & 0o777).toBe(0o700)
    expect(statSync(join(directory, 'data')).uid).not.toBe(0)
    expect(readFileSync(join(directory, 'postgres.log'), 'utf8')).not.toContain(new URL(postgres.url).password)
  })

  it('survives the SIGKILL of its owner with every answered row, and is adopted', async () => {
    const owner = await startOwner()
    await query(owner.url, 'create table kept as select generate_series(1, 1000) as id')
    owner.child.kill('SIGKILL')
    await once(owner.child, 'exit')
    const next = await start()
    expect(next.adopted).toBe(true)
    expect(next.pid()).toBe(owner.pid)
    expect(await query(next.url, 'select count(*)::int as count from kept')).toEqual([{ count: 1000 }])
  })

  it('recovers when owner and server were both killed', async () => {
    const owner = await startOwner()
    await query(owner.url, 'create table kept as select generate_series(1, 1000) as id')
    owner.child.kill('SIGKILL')
    process.kill(owner.pid, 'SIGKILL')
    const next = await start()
    expect(next.adopted).toBe(false)
    expect(await query(next.url, 'select count(*)::int as count from kept')).toEqual([{ count: 1000 }])
  })

  it('has one owner: a second is told who that is', async () => {
    const owner = await startOwner()
    await expect(startEmbeddedPostgres({ directory })).rejects.toThrow(
      `Another running server (process ${owner.child.pid}) uses ${directory}. Stop it, or choose another directory with TOLLGATE_DATA_DIR.`,
    )
    expect(await query(owner.url, 'select 1 as one')).toEqual([{ one: 1 }])
  })

  it('has one owner also when two start at once in an empty directory', async () => {
    directory = join(parent, 'empty')
    const outcomes = await Promise.allSettled([start(), start()])
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    const refused = outcomes.find((outcome) => outcome.status === 'rejected')
    expect(String(refused?.reason)).toContain('Another running server')
  })

  it('is started again on the same port when it dies', async () => {
    const postgres = await start()
    const pid = postgres.pid()
    process.kill(pid, 'SIGKILL')
    await vi.waitFor(async () => expect(await query(postgres.url, 'select 1 as one')).toEqual([{ one: 1 }]), {
      ...PATIENCE,
      interval: 50,
    })
    await vi.waitFor(() => expect(postgres.pid()).not.toBe(pid), PATIENCE)
  })

  it('is gone when stopped, also after it was adopted', async () => {
    const owner = await startOwner()
    owner.child.kill('SIGKILL')
    const next = await start()
    await next.stop()
    expect(livenessOf(owner.pid, join(directory, 'data'))).not.toBe('running')
    expect(existsSync(join(directory, 'data/postmaster.pid'))).toBe(false)
    await next.stop()
  })

  it.runIf(process.getuid?.() === 0)(
    'lives elsewhere when nobody cannot enter its directory, and leaves when that is deleted',
    async () => {
      const closed = join(parent, 'closed')
      mkdirSync(closed, { mode: 0o700 })
      const link = join(closed, 'postgres')
      const first = await startEmbeddedPostgres({ directory: link })
      await query(first.url, 'create table kept (id int)')
      await first.stop()
      const target = realpathSync(link)
      expect(target).toMatch(/^\/var\/lib\/tollgate\//)
      const again = await startEmbeddedPostgres({ directory: link })
      expect(await query(again.url, 'select count(*)::int as count from kept')).toEqual([{ count: 0 }])
      await again.stop()
      rmSync(link)
      const other = join(closed, 'other')
      await (await startEmbeddedPostgres({ directory: other })).stop()
      expect(existsSync(target)).toBe(false)
      rmSync(realpathSync(other), { recursive: true })
    },
  )

  it('is reached by its Unix socket, and by TCP', async () => {
    const postgres = await start()
    const client = `select coalesce(host(inet_client_addr()), 'socket') as client`
    expect(await query(postgres.url, client)).toEqual([{ client: 'socket' }])
    expect(await query(postgres.tcpUrl, client)).toEqual([{ client: '127.0.0.1' }])
    expect(findRunningPostgres(directory)).toBe(postgres.url)
  })

  it.each([
    ['whose path is too long for a socket', 'x'.repeat(100)],
    ['with a comma in its name', 'a,b'],
  ])('is reached by TCP alone in a directory %s', async (_, name) => {
    directory = join(parent, name)
    seed.copyTo(directory)
    const postgres = await start()
    expect(postgres.url).toBe(postgres.tcpUrl)
    expect(await query(postgres.url, 'select 1 as one')).toEqual([{ one: 1 }])
  })

  it('is not fooled by files whose number another program of its account has now', async () => {
    const first = await start()
    await first.stop()
    const other = spawn('sleep', ['60'], { ...findAccount() })
    owners.push(other)
    await once(other, 'spawn')
    const lines = `${other.pid}\n${directory}/data\n1\n${first.port}\n${directory}\n127.0.0.1\n`
    writeFileSync(join(directory, `.s.PGSQL.${first.port}.lock`), lines)
    writeFileSync(join(directory, 'data/postmaster.pid'), `${lines}\nready\n`)
    const second = await start()
    expect(second.url).toBe(first.url)
    expect(await query(second.url, 'select 1 as one')).toEqual([{ one: 1 }])
  })

  it('says what is wrong when it cannot start', async () => {
    writeFileSync(join(directory, 'data/PG_VERSION'), '9\n')
    await expect(startEmbeddedPostgres({ directory })).rejects.toThrow(/PostgreSQL did not start\. Its log .* ends with:/)
  })
})
