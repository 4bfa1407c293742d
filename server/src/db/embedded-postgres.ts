import { spawn } from 'node:child_process'
import { existsSync, openSync, closeSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import pg from 'pg'
import { initializeCluster, prepareHome, readPassword, SUPERUSER } from './postgres-cluster.ts'
import { EmbeddedPostgresError, findAccount, prepareBinaries, type Account } from './postgres-binaries.ts'
import { isCode, isDirectoryInUse, livenessOf, readLockFile, readPostmaster } from './postmaster.ts'

export { EmbeddedPostgresError } from './postgres-binaries.ts'

export type EmbeddedPostgresOptions = {
  /** Where the cluster, its log and its password are kept; made when missing, mode 0700. */
  readonly directory: string
  /** `none` turns fsync off: for tests that kill no server. Default `full`. */
  readonly durability?: 'full' | 'none'
  /** Default 100. */
  readonly maxConnections?: number
  /** Told of what happens later: the server went away, came back. */
  readonly log?: (message: string) => void
}

export type EmbeddedPostgres = {
  /**
   * The address of its Unix socket, which costs both sides less than TCP: `postgres://…@%2F<directory>:<port>/tollgate`; `tcpUrl` where a
   * socket's path would be too long. Holds the password: never log it. Stays the same until `stop`.
   */
  readonly url: string
  /** `postgres://…@127.0.0.1:<port>/tollgate`; as secret, and as steady. */
  readonly tcpUrl: string
  readonly port: number
  /** Whether an earlier owner was killed and left this server running. */
  readonly adopted: boolean
  /** The process id of PostgreSQL now. */
  pid(): number
  /** Fast shutdown: open transactions are rolled back, everything is written, the process is gone when this resolves. */
  stop(): Promise<void>
}

const DATABASE = 'tollgate'
const LOOPBACK = '127.0.0.1'
const START_TIMEOUT_MS = 30_000
const STOP_TIMEOUT_MS = 10_000
const POLL_MS = 10
const RETRY_MS = 100
const OWNED_PATIENCE_MS = 2_000
const ZOMBIE_PATIENCE_MS = 3_000
const LOG_LIMIT_BYTES = 5_000_000
/** Any fixed number will do: the session that holds this advisory lock owns the directory. */
const OWNER_LOCK = 7_865_431

type Cluster = {
  readonly home: string
  readonly data: string
  readonly binaries: string
  readonly account: Account
  readonly options: EmbeddedPostgresOptions
}

/**
 * Starts the PostgreSQL of a directory, or adopts the one that a killed owner left running, and owns it until `stop`.
 * The owner is a database session with an advisory lock: it dies with its process, so no lock file can go stale.
 * If PostgreSQL dies meanwhile it is started again on the same port.
 * @throws EmbeddedPostgresError with a sentence for the user when another live server owns the directory, or it cannot start
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const { path: home, account } = prepareHome(options.directory, findAccount(), options.log)
  const binaries = prepareBinaries(home, account)
  const data = join(home, 'data')
  const cluster: Cluster = { home, data, binaries, account, options }
  await initializeCluster({ home, data, binaries, account, sync: options.durability !== 'none' })
  return supervise(cluster, await takeOver(cluster, null))
}

/** A running server of which this process is the owner. */
type Ownership = Address & { readonly session: pg.Client; readonly pid: number; readonly adopted: boolean }

/**
 * The address of the server of a directory that another process owns and that is ready; null when none runs.
 * For tools that want to look in beside the owner.
 */
export function findRunningPostgres(directory: string): string | null {
  const data = join(directory, 'data')
  const postmaster = readPostmaster(data)
  if (postmaster?.status !== 'ready' || postmaster.port === null || livenessOf(postmaster.pid, data) !== 'running') return null
  return urlOf(data, { port: postmaster.port, socketDirectory: postmaster.socketDirectory })
}

type Address = { readonly port: number; readonly socketDirectory: string | null }

/** The form that libpq has for sockets: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS */
function urlOf(data: string, { port, socketDirectory }: Address): string {
  const host = socketDirectory === null ? LOOPBACK : encodeURIComponent(socketDirectory)
  return `postgres://${SUPERUSER}:${readPassword(data)}@${host}:${port}/${DATABASE}`
}

function supervise(cluster: Cluster, first: Ownership): EmbeddedPostgres {
  let owned = first
  const abort = new AbortController()
  let recovery: Promise<void> = Promise.resolve()

  const watch = (ownership: Ownership): void => {
    ownership.session.on('end', () => {
      if (!abort.signal.aborted) recovery = recover()
    })
  }
  const recover = async (): Promise<void> => {
    cluster.options.log?.('PostgreSQL went away; starting it again.')
    for (let delayMs = 50; !abort.signal.aborted; delayMs = Math.min(delayMs * 2, 2_000)) {
      try {
        owned = await takeOver(cluster, first.port)
        watch(owned)
        cluster.options.log?.('PostgreSQL is back.')
        return
      } catch (error) {
        cluster.options.log?.(`PostgreSQL does not start: ${error instanceof Error ? error.message : String(error)}`)
        await wait(delayMs)
      }
    }
  }
  watch(owned)

  return {
    url: urlOf(cluster.data, first),
    tcpUrl: urlOf(cluster.data, { port: first.port, socketDirectory: null }),
    port: first.port,
    adopted: first.adopted,
    pid: () => owned.pid,
    async stop() {
      if (abort.signal.aborted) return
      abort.abort()
      await recovery
      await owned.session.end().catch(() => undefined)
      await shutDown(cluster)
    },
  }
}

/** Becomes the owner of the running server, or of a new one. With a port given it must be that one. */
async function takeOver(cluster: Cluster, fixedPort: number | null): Promise<Ownership> {
  const deadline = performance.now() + START_TIMEOUT_MS
  let ownPid: number | null = null
  while (performance.now() < deadline) {
    const postmaster = readPostmaster(cluster.data)
    const liveness = postmaster ? livenessOf(postmaster.pid, cluster.data) : 'gone'
    if (liveness === 'running') {
      if (postmaster?.status === 'ready' && postmaster.port !== null) {
        const session = await own(cluster, postmaster.port)
        const { port, socketDirectory, pid } = postmaster
        if (session) return { session, port, socketDirectory, pid, adopted: pid !== ownPid }
      }
      await wait(POLL_MS)
      continue
    }
    if (postmaster) await clearStalePidFile(cluster.data, postmaster.pid)
    ownPid = await launch(cluster, fixedPort)
    if (ownPid === null) await wait(RETRY_MS)
  }
  throw new EmbeddedPostgresError(`PostgreSQL did not get ready within ${START_TIMEOUT_MS / 1000} s.${tailOfLog(cluster.home)}`)
}

/** A session that owns the server; null when the server is just going down. */
async function own(cluster: Cluster, port: number): Promise<pg.Client | null> {
  const deadline = performance.now() + OWNED_PATIENCE_MS
  const session = new pg.Client({
    host: LOOPBACK,
    port,
    user: SUPERUSER,
    password: readPassword(cluster.data),
    database: 'postgres',
    application_name: `tollgate-owner-${process.pid}`,
    keepAlive: true,
  })
  session.on('error', () => undefined)
  try {
    await session.connect()
    for (;;) {
      const { rows } = await session.query<{ locked: boolean }>('select pg_try_advisory_lock($1) as locked', [OWNER_LOCK])
      if (rows[0]?.locked) break
      // The session of an owner that was just killed takes a moment to go.
      if (performance.now() > deadline) throw await describeOwner(cluster, session)
      await wait(POLL_MS)
    }
    const { rowCount } = await session.query('select from pg_database where datname = $1', [DATABASE])
    if (rowCount === 0) await session.query(`create database ${DATABASE}`)
    return session
  } catch (error) {
    await session.end().catch(() => undefined)
    if (error instanceof EmbeddedPostgresError) throw error
    if (error instanceof Error && 'code' in error && error.code === '28P01') {
      throw new EmbeddedPostgresError(`The password kept in ${cluster.data} does not fit its PostgreSQL.`, { cause: error })
    }
    return null
  }
}

async function describeOwner(cluster: Cluster, session: pg.Client): Promise<EmbeddedPostgresError> {
  const { rows } = await session.query<{ application_name: string }>(
    `select application_name from pg_stat_activity where application_name like 'tollgate-owner-%' and pid in (select pid from pg_locks where locktype = 'advisory' and objid = $1 and granted)`,
    [OWNER_LOCK],
  )
  const pid = rows[0]?.application_name.replace('tollgate-owner-', '')
  return new EmbeddedPostgresError(
    `Another running server${pid ? ` (process ${pid})` : ''} uses ${cluster.options.directory}. Stop it, or choose another directory with TOLLGATE_DATA_DIR.`,
  )
}

/**
 * PostgreSQL clears the file of a dead postmaster itself, but takes a zombie, or a program that got the number since, for
 * a live one. A zombie is given time to be reaped; then the file goes, unless a backend still works in the directory.
 */
async function clearStalePidFile(data: string, pid: number): Promise<void> {
  const deadline = performance.now() + ZOMBIE_PATIENCE_MS
  while (isDirectoryInUse(data) || livenessOf(pid, data) === 'zombie') {
    if (performance.now() > deadline && !isDirectoryInUse(data)) break
    if (performance.now() > deadline + START_TIMEOUT_MS) {
      throw new EmbeddedPostgresError(`Processes of an earlier PostgreSQL still work in ${data}.`)
    }
    await wait(POLL_MS)
  }
  const file = join(data, 'postmaster.pid')
  const aside = `${file}.${process.pid}`
  try {
    renameSync(file, aside)
  } catch (error) {
    if (isCode(error, 'ENOENT')) return
    throw error
  }
  // Another start may have put a fresh file there in between: that one goes back.
  if (Number(readFileSync(aside, 'utf8').split('\n')[0]) === pid) rmSync(aside)
  else renameSync(aside, file)
}

/** The same of the file beside its socket; the socket itself PostgreSQL replaces. */
function clearStaleSocketLock({ home, data }: Cluster, port: number): void {
  const path = join(home, `.s.PGSQL.${port}.lock`)
  const lock = readLockFile(path)
  if (lock && livenessOf(lock.pid, data) !== 'running') rmSync(path, { force: true })
}

/** Spawns PostgreSQL and waits until it is ready or has given way to another; answers its process id. */
async function launch(cluster: Cluster, fixedPort: number | null): Promise<number | null> {
  const port = fixedPort ?? (await choosePort(cluster.home))
  clearStaleSocketLock(cluster, port)
  const log = openLog(cluster.home)
  const child = spawn(join(cluster.binaries, 'bin/postgres'), serverArguments(cluster, port), {
    ...cluster.account,
    cwd: cluster.home,
    env: { LC_ALL: 'C', TZ: 'UTC' },
    // Its own session: Ctrl-C in the terminal must not stop the database before the server has answered.
    detached: true,
    stdio: ['ignore', log, log],
  })
  closeSync(log)
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => resolve())
    child.once('error', () => resolve())
  })
  child.unref()
  const deadline = performance.now() + START_TIMEOUT_MS
  while (child.exitCode === null && child.signalCode === null && child.pid !== undefined && performance.now() < deadline) {
    const postmaster = readPostmaster(cluster.data)
    if (postmaster?.pid === child.pid && postmaster?.status === 'ready') {
      writeFileSync(join(cluster.home, 'port'), String(port), { mode: 0o600 })
      return child.pid ?? null
    }
    await Promise.race([wait(POLL_MS), exited])
  }
  explainFailure(cluster, fixedPort)
  return null
}

/** A lost race for the port or the directory is tried again by the caller; anything else is told. */
function explainFailure(cluster: Cluster, fixedPort: number | null): void {
  const tail = tailOfLog(cluster.home)
  if (tail.includes('could not create any TCP/IP sockets') && fixedPort === null) {
    rmSync(join(cluster.home, 'port'), { force: true })
    return
  }
  // Another start was first, or backends of a killed server are just going.
  if (tail.includes('lock file "postmaster.pid" already exists') || tail.includes('is still in use')) return
  throw new EmbeddedPostgresError(`PostgreSQL did not start.${tail}`)
}

/** A socket's path has 107 bytes at most (https://man7.org/linux/man-pages/man7/unix.7.html), 103 on macOS; PostgreSQL takes a comma for the next directory. */
const MOST_SOCKET_BYTES = 103

function socketDirectoryOf(home: string, port: number): string {
  return Buffer.byteLength(`${home}/.s.PGSQL.${port}`) > MOST_SOCKET_BYTES || /[,"]/.test(home) ? '' : home
}

function serverArguments(cluster: Cluster, port: number): string[] {
  const settings: Record<string, string> = {
    listen_addresses: LOOPBACK,
    unix_socket_directories: socketDirectoryOf(cluster.home, port),
    // The directory lets nobody else in, and neither does the password.
    unix_socket_permissions: '0700',
    port: String(port),
    max_connections: String(cluster.options.maxConnections ?? 100),
    timezone: 'UTC',
    log_timezone: 'UTC',
    log_checkpoints: 'off',
    // Passwords and keys travel as parameters: a failing statement must not write them into the log.
    log_parameter_max_length_on_error: '0',
  }
  if (cluster.options.durability === 'none')
    Object.assign(settings, { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' })
  return ['-D', cluster.data, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])]
}

async function shutDown(cluster: Cluster): Promise<void> {
  const postmaster = readPostmaster(cluster.data)
  if (!postmaster) return
  const deadline = performance.now() + STOP_TIMEOUT_MS
  signal(postmaster.pid, 'SIGINT')
  let insisted = false
  // The file goes last before the process ends; a zombie that nobody reaps counts as ended.
  while (readPostmaster(cluster.data)?.pid === postmaster.pid || livenessOf(postmaster.pid, cluster.data) === 'running') {
    if (livenessOf(postmaster.pid, cluster.data) !== 'running') return
    if (!insisted && performance.now() > deadline) {
      insisted = true
      signal(postmaster.pid, 'SIGQUIT')
    }
    if (performance.now() > deadline + STOP_TIMEOUT_MS) {
      throw new EmbeddedPostgresError(`PostgreSQL (process ${postmaster.pid}) does not stop.`)
    }
    await wait(POLL_MS)
  }
}

function signal(pid: number, name: 'SIGINT' | 'SIGQUIT'): void {
  try {
    process.kill(pid, name)
  } catch (error) {
    if (!isCode(error, 'ESRCH')) throw error
  }
}

/** The port of the last start where it is still free, else any free one. */
async function choosePort(home: string): Promise<number> {
  const file = join(home, 'port')
  const remembered = existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0
  if (Number.isSafeInteger(remembered) && remembered > 0 && remembered < 65_536 && (await bindable(remembered)) !== null)
    return remembered
  const free = await bindable(0)
  if (free === null) throw new EmbeddedPostgresError('No port on 127.0.0.1 is free for PostgreSQL.')
  return free
}

function bindable(port: number): Promise<number | null> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(null))
    server.listen({ host: '127.0.0.1', port, exclusive: true }, () => {
      const address = server.address()
      server.close(() => resolve(typeof address === 'object' && address ? address.port : null))
    })
  })
}

function openLog(home: string): number {
  const file = join(home, 'postgres.log')
  if (existsSync(file) && statSync(file).size > LOG_LIMIT_BYTES) renameSync(file, `${file}.1`)
  return openSync(file, 'a', 0o600)
}

function tailOfLog(home: string): string {
  const file = join(home, 'postgres.log')
  if (!existsSync(file)) return ''
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n').slice(-6)
  return ` Its log (${file}) ends with:\n${lines.join('\n')}`
}
