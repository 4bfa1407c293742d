import { spawn } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import type { TestProject } from 'vitest/node'
import { openDatabase } from '../src/db/database.ts'
import { startEmbeddedPostgres } from '../src/db/embedded-postgres.ts'
import { migrate } from '../src/db/migrate.ts'
import { TEMPLATE } from './database.ts'
import { GRANTS_UNDER_LOCK } from './under-lock.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** The test server's address, on its maintenance database. */
    databaseServerUrl: string
  }
}

type TestServer = { readonly url: string; stop(): Promise<void> }

/** One PostgreSQL for the whole run, with a migrated template that each test file clones. */
export default async function setUp(project: TestProject): Promise<() => Promise<void>> {
  const given = process.env['TEST_DATABASE_URL']
  const server = given === undefined ? await startServer() : { url: given, stop: async () => undefined }
  const serverUrl = new URL(server.url)
  serverUrl.pathname = '/postgres'
  const client = new pg.Client({ connectionString: serverUrl.href })
  await client.connect()
  await client.query(`drop database if exists ${TEMPLATE} with (force)`)
  await client.query(`create database ${TEMPLATE}`)
  await client.end()
  const templateUrl = new URL(server.url)
  templateUrl.pathname = `/${TEMPLATE}`
  const template = openDatabase({ connectionString: templateUrl.href, poolSize: 1 })
  await migrate(template)
  await template.query(GRANTS_UNDER_LOCK)
  await template.close()
  project.provide('databaseServerUrl', serverUrl.href)
  return () => server.stop()
}

async function startServer(): Promise<TestServer> {
  const directory = mkdtempSync(join(tmpdir(), 'tollgate-test-'))
  // As root, PostgreSQL runs under nobody, which passes through here.
  chmodSync(directory, 0o711)
  const postgres = await startEmbeddedPostgres({
    directory: join(directory, 'postgres'),
    durability: 'none',
    maxConnections: 300,
  })
  const watchdog = stopWithParent(postgres.pid(), directory)
  return {
    url: postgres.tcpUrl,
    async stop() {
      watchdog.kill('SIGKILL')
      await postgres.stop()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

/** A killed test run must not leave its server behind: a shell waits for the end of our pipe, which comes in any case. */
function stopWithParent(pid: number, directory: string) {
  const script = 'read _; kill -INT "$0" 2>/dev/null; sleep 1; rm -rf "$1"'
  const watchdog = spawn('/bin/sh', ['-c', script, String(pid), directory], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  })
  watchdog.unref()
  return watchdog
}
