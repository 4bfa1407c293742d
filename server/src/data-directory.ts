import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { randomBase62 } from './lib/ids.ts'
import { readRuntime, RUNTIME_FILE, type Runtime } from './runtime-file.ts'

/** The directory of one development installation; everything secret in it is readable by its owner alone. */
export type DataDirectory = {
  readonly path: string
  readonly postgres: string
  readonly sandboxFile: string
  /** A secret that is made once and kept. */
  secret(name: string, prefix: string): string
  writeRuntime(runtime: Runtime): void
  removeRuntime(): void
}

/** Opens the directory, making it when missing. */
export function openDataDirectory(path: string): DataDirectory {
  const directory = resolve(path)
  if (!existsSync(directory)) {
    mkdirSync(directory, { recursive: true })
    // As root, PostgreSQL runs under another account, which passes through here.
    chmodSync(directory, process.getuid?.() === 0 ? 0o711 : 0o700)
  }
  return {
    path: directory,
    postgres: join(directory, 'postgres'),
    sandboxFile: ensurePrivate(join(directory, 'stripe-sandbox.sqlite')),
    secret: (name, prefix) => keepSecret(join(directory, name), () => `${prefix}${randomBase62(43)}`),
    writeRuntime: (runtime) => writePrivately(join(directory, RUNTIME_FILE), `${JSON.stringify(runtime, null, 2)}\n`),
    removeRuntime() {
      // Another server's stays: this one may have been refused because that one runs.
      if (readRuntime(directory)?.pid === process.pid) rmSync(join(directory, RUNTIME_FILE))
    },
  }
}

function keepSecret(path: string, make: () => string): string {
  if (!existsSync(path)) writePrivately(path, make())
  return readFileSync(path, 'utf8').trim()
}

/** Made empty, which is a new database to SQLite; what it adds beside the file gets the same mode. */
function ensurePrivate(path: string): string {
  writeFileSync(path, '', { flag: 'a', mode: 0o600 })
  return path
}

/** In one step, so that a reader never sees half of it. */
function writePrivately(path: string, content: string): void {
  const aside = `${path}.${process.pid}`
  writeFileSync(aside, content, { mode: 0o600 })
  renameSync(aside, path)
}
