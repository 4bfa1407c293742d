import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer, type AddressInfo, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test, vi } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { runCli, spawnScript, variablesFor } from '../../test/program.ts'

const PATIENCE = { timeout: 40_000, interval: 20 }
const database = testDatabase()
const directory = mkdtempSync(join(tmpdir(), 'tollgate-start-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

async function listen(): Promise<Server> {
  const server = createServer((socket) => void socket.on('error', () => undefined)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server
}

const portOf = (server: Server): number => (server.address() as AddressInfo).port

async function freePort(): Promise<string> {
  const server = await listen()
  const port = String(portOf(server))
  server.close()
  await once(server, 'close')
  return port
}

const environment = (databaseUrl: string, more: Record<string, string> = {}) =>
  variablesFor(directory, { DATABASE_URL: databaseUrl, TOLLGATE_OPERATOR_KEY: 'operator-key', LOG_LEVEL: 'silent', ...more })

async function isListening(port: string): Promise<boolean> {
  const socket = connect(Number(port), '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

test('a taken port is told of at once, before a database is asked', async () => {
  const taken = await listen()
  const { code, err } = await runCli(
    ['start'],
    environment('postgres://nobody@127.0.0.1:9/none', { PORT: String(portOf(taken)) }),
  )
  taken.close()
  expect([code, err]).toEqual([1, expect.stringContaining('is taken. Set PORT to another')])
})

test('whoever asks before it is ready finds nobody there, and goes to another server', async () => {
  // Takes connections, and never says a word.
  const silent = await listen()
  const asked = once(silent, 'connection')
  const PORT = await freePort()
  const child = spawnScript(
    ['server/src/cli/main.ts', 'start'],
    environment(`postgres://nobody@127.0.0.1:${portOf(silent)}/none`, { PORT }),
  )
  const ended = once(child, 'close')
  await asked
  expect(await isListening(PORT)).toBe(false)
  child.kill('SIGKILL')
  await ended
  silent.close()
}, 60_000)

test('told to stop, it says so to load balancers and answers everything until they have noticed', async () => {
  const PORT = await freePort()
  const child = spawnScript(
    ['server/src/cli/main.ts', 'start'],
    environment(database.url, { PORT, TOLLGATE_DRAIN_SECONDS: '300' }),
  )
  const ended = once(child, 'close')
  const ask = (path: string) => fetch(`http://127.0.0.1:${PORT}${path}`, { headers: { authorization: 'Bearer operator-key' } })
  await vi.waitFor(async () => expect((await ask('/readyz')).status).toBe(200), PATIENCE)
  child.kill('SIGTERM')
  await vi.waitFor(async () => expect((await ask('/readyz')).status).toBe(503), PATIENCE)
  expect(await (await ask('/readyz')).json()).toMatchObject({ status: 'stopping' })
  const answer = await ask('/api/v1/organizations')
  expect([answer.status, answer.headers.get('connection')]).toEqual([200, 'close'])
  child.kill('SIGTERM')
  await ended
}, 90_000)
