import { spawn } from 'node:child_process'
import {
  accessSync,
  chmodSync,
  chownSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { randomBase62 } from '../lib/ids.ts'
import { isDirectoryInUse } from './postmaster.ts'
import { canEnter, EmbeddedPostgresError, type Account } from './postgres-binaries.ts'

export const SUPERUSER = 'tollgate'

/** Kept inside the cluster, so that password and cluster come into being in one rename. */
const PASSWORD_FILE = 'tollgate-password'
/** Where root keeps the cluster of a directory that only root can enter. */
const REACHABLE_ROOT = '/var/lib/tollgate'
/** Beside the cluster: the link that leads to it. */
const ORIGIN_FILE = 'origin'

/** Where a cluster lives, and who runs it. */
export type Home = { readonly path: string; readonly account: Account }

/**
 * Makes the directory of the cluster (mode 0700, owned by the account). Where the account cannot reach it, because a
 * parent is closed to everybody but root, the cluster lives below /var/lib/tollgate and the directory is a link to it.
 * As root, a cluster that an ordinary user made stays that user's and runs under that account.
 * @throws EmbeddedPostgresError when the directory is another user's, or cannot be reached
 */
export function prepareHome(directory: string, account: Account, log?: (message: string) => void): Home {
  const home = existsSync(directory) ? realpathSync(directory) : resolve(directory)
  const parent = dirname(home)
  const created = mkdirSync(parent, { recursive: true })
  if (!account) return prepareOwnHome(home)
  const owner = ownerOfData(home)
  if (owner && owner.uid !== account.uid) return { path: home, account: owner }
  // A directory just made may be closed by the umask; the account only passes through it.
  if (created !== undefined) openPath(created, parent)
  if (existsSync(home) ? canEnter(account, home) : canEnter(account, parent)) {
    mkdirSync(home, { recursive: true })
    own(home, account)
    return { path: home, account }
  }
  return { path: linkToReachableHome(home, account, log), account }
}

function prepareOwnHome(home: string): Home {
  mkdirSync(home, { recursive: true, mode: 0o700 })
  try {
    accessSync(home, constants.R_OK | constants.W_OK | constants.X_OK)
  } catch (error) {
    throw new EmbeddedPostgresError(
      `${home} belongs to another user, perhaps because the server was started as root before. Choose another directory with TOLLGATE_DATA_DIR.`,
      { cause: error },
    )
  }
  return { path: home, account: null }
}

function ownerOfData(home: string): { uid: number; gid: number } | null {
  const stat = statSync(join(home, 'data'), { throwIfNoEntry: false })
  return stat && stat.uid !== 0 ? { uid: stat.uid, gid: stat.gid } : null
}

function linkToReachableHome(home: string, account: { uid: number; gid: number }, log?: (message: string) => void): string {
  if (existsSync(home) && readdirSync(home).length > 0) {
    throw new EmbeddedPostgresError(
      `The user nobody, which runs PostgreSQL here, cannot enter ${home}. Open its parent directories (chmod o+x), or set TOLLGATE_DATA_DIR to a reachable one.`,
    )
  }
  rmSync(home, { recursive: true, force: true })
  mkdirSync(REACHABLE_ROOT, { recursive: true })
  chmodSync(REACHABLE_ROOT, 0o711)
  pruneAbandoned()
  const target = mkdtempSync(join(REACHABLE_ROOT, 'data-'))
  own(target, account)
  writeFileSync(join(target, ORIGIN_FILE), home)
  symlinkSync(target, home)
  log?.(`PostgreSQL runs under the user nobody, which cannot enter ${dirname(home)}; its data is kept in ${target}.`)
  return target
}

/** Removes what was kept for a directory whose owner has deleted the link to it since. */
function pruneAbandoned(): void {
  for (const name of readdirSync(REACHABLE_ROOT)) {
    const target = join(REACHABLE_ROOT, name)
    const file = join(target, ORIGIN_FILE)
    if (existsSync(file) && isAbandoned(target, readFileSync(file, 'utf8'))) rmSync(target, { recursive: true, force: true })
  }
}

function isAbandoned(target: string, link: string): boolean {
  const stat = lstatSync(link, { throwIfNoEntry: false })
  const linked = stat?.isSymbolicLink() === true && readlinkSync(link) === target
  // A directory that is gone as a whole may be a disk that is not mounted now, unless it was a temporary one.
  const deleted = existsSync(dirname(link)) || link.startsWith(`${tmpdir()}/`)
  return !linked && deleted && !isDirectoryInUse(join(target, 'data'))
}

function own(directory: string, account: { uid: number; gid: number }): void {
  chownSync(directory, account.uid, account.gid)
  chmodSync(directory, 0o700)
}

function openPath(from: string, to: string): void {
  for (let path = to; path.length >= from.length; path = dirname(path)) chmodSync(path, statSync(path).mode | 0o111)
}

export function readPassword(data: string): string {
  return readFileSync(join(data, PASSWORD_FILE), 'utf8')
}

/**
 * Makes the cluster unless there is one. It is made aside and renamed when complete: a killed start leaves no half, and
 * of two starts at once one wins.
 */
export async function initializeCluster(options: {
  home: string
  data: string
  binaries: string
  account: Account
  sync: boolean
}): Promise<void> {
  const { home, data, binaries, account } = options
  if (existsSync(data)) return
  const staging = mkdtempSync(join(home, 'new-'))
  if (account) own(staging, account)
  const cluster = join(staging, 'data')
  const passwordFile = join(staging, PASSWORD_FILE)
  writeFileSync(passwordFile, randomBase62(43), { mode: 0o600 })
  if (account) chownSync(passwordFile, account.uid, account.gid)
  const args = ['-D', cluster, '-U', SUPERUSER, '--auth=scram-sha-256', `--pwfile=${passwordFile}`, '--encoding=UTF8']
  args.push('--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--no-instructions')
  if (!options.sync) args.push('--no-sync')
  try {
    await runInitdb(join(binaries, 'bin/initdb'), args, account, staging)
    renameSync(passwordFile, join(cluster, PASSWORD_FILE))
    renameSync(cluster, data)
  } catch (error) {
    if (!existsSync(data)) throw error
  } finally {
    rmSync(staging, { recursive: true, force: true })
  }
}

async function runInitdb(program: string, args: string[], account: Account, cwd: string): Promise<void> {
  const child = spawn(program, args, {
    ...account,
    cwd,
    env: { LC_ALL: 'C', TZ: 'UTC', PATH: '/usr/bin:/bin' },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let complaint = ''
  child.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString()))
  const status = await new Promise<number | null>((done, failed) => {
    child.once('close', done)
    child.once('error', failed)
  })
  if (status !== 0) {
    throw new EmbeddedPostgresError(
      `PostgreSQL could not set up its data directory (${complaint.trim()}). Set DATABASE_URL to a PostgreSQL 15 or newer instead.`,
    )
  }
}
