import { existsSync, readdirSync, readFileSync, readlinkSync, realpathSync } from 'node:fs'
import { join } from 'node:path'

/** What PostgreSQL writes into postmaster.pid (one line each; see miscadmin.h of PostgreSQL). */
export type Postmaster = {
  readonly pid: number
  readonly port: number | null
  /** Where its Unix socket lies; null when it has none. */
  readonly socketDirectory: string | null
  readonly status: 'starting' | 'stopping' | 'ready' | 'standby' | null
}

/** Reads `<data>/postmaster.pid`; null when there is none or it is not written yet. */
export function readPostmaster(data: string): Postmaster | null {
  const file = readLockFile(join(data, 'postmaster.pid'))
  if (!file) return null
  const { pid, lines } = file
  const port = Number(lines[3])
  const status = lines[7]?.trim()
  return {
    pid,
    port: Number.isSafeInteger(port) && port > 0 ? port : null,
    socketDirectory: lines[4]?.trim() || null,
    status: status === 'starting' || status === 'stopping' || status === 'ready' || status === 'standby' ? status : null,
  }
}

/** A file by which PostgreSQL says that it is there: its first line is its process id. null when there is none or it is not written yet. */
export function readLockFile(path: string): { readonly pid: number; readonly lines: readonly string[] } | null {
  let lines: string[]
  try {
    lines = readFileSync(path, 'utf8').split('\n')
  } catch {
    return null
  }
  const pid = Number(lines[0])
  return Number.isSafeInteger(pid) && pid > 0 ? { pid, lines } : null
}

export type Liveness = 'running' | 'zombie' | 'gone'

/**
 * Whether the process still runs PostgreSQL in this data directory. A number that another program got since then is
 * `gone`; a dead process that nobody has waited for (containers without a reaper) is `zombie`.
 */
export function livenessOf(pid: number, data: string): Liveness {
  try {
    process.kill(pid, 0)
  } catch (error) {
    // EPERM: somebody else's process has the number, and ours would answer to us.
    if (isCode(error, 'ESRCH') || isCode(error, 'EPERM')) return 'gone'
    throw error
  }
  if (process.platform !== 'linux') return 'running'
  const state = readState(pid)
  if (state === null) return 'gone'
  if (state === 'Z' || state === 'X') return 'zombie'
  const directory = workingDirectoryOf(pid)
  return directory === null || directory === realpathSync(data) ? 'running' : 'gone'
}

/** Whether any process works in the data directory: a backend may outlive a killed postmaster for a moment. */
export function isDirectoryInUse(data: string): boolean {
  if (process.platform !== 'linux' || !existsSync(data)) return false
  const path = realpathSync(data)
  return readdirSync('/proc').some((name) => {
    const pid = Number(name)
    return Number.isSafeInteger(pid) && workingDirectoryOf(pid) === path && readState(pid) !== 'Z'
  })
}

function readState(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The name stands in brackets and may hold anything; the state is the first field after it.
    return stat.slice(stat.lastIndexOf(')') + 2).charAt(0)
  } catch {
    return null
  }
}

function workingDirectoryOf(pid: number): string | null {
  try {
    return readlinkSync(`/proc/${pid}/cwd`)
  } catch {
    return null
  }
}

export function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
