import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { readConfig } from '../config.ts'
import { RUNTIME_FILE } from '../runtime-file.ts'
import { connect, CliError } from './connection.ts'
import { examine } from './doctor.ts'
import { runMigrations } from './maintenance.ts'
import { createProgram } from './program.ts'
import { explain } from './terminal.ts'

const OWN_KEY = 'the key of the server that runs here'
const database = testDatabase()

let dataDir: string
let url: string
const asked: (string | undefined)[] = []
const requestKeys: unknown[] = []
const server = createServer((request, response) => {
  asked.push(request.headers.authorization)
  requestKeys.push(request.headers['idempotency-key'])
  if (request.url === '/broken-off' || request.method === 'POST') {
    response.writeHead(200, { 'content-length': 100 })
    response.write('half', () => response.destroy())
  } else response.end('[]')
})

beforeAll(async () => {
  dataDir = mkdtempSync(join(tmpdir(), 'tollgate-connection-'))
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
beforeEach(() => {
  asked.length = 0
  requestKeys.length = 0
  writeRuntime(JSON.stringify({ url, operatorKey: OWN_KEY, sandboxUrl: null, pid: process.pid }))
})
afterAll(() => {
  server.close()
  rmSync(dataDir, { recursive: true })
})

const writeRuntime = (text: string): void => writeFileSync(join(dataDir, RUNTIME_FILE), text)

/** What a command says on standard error, and its exit code. */
async function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  let [out, err] = ['', '']
  const output = { out: (text: string) => void (out += text), err: (text: string) => void (err += text) }
  const never = () => Promise.reject(new Error('nothing was to be launched'))
  const launchers = { dev: never, start: never, migrate: never, push: never, pull: never, doctor: never }
  try {
    await createProgram({ launchers, output, dataDir, variables: {} }).parseAsync(['node', 'tollgate', ...args])
    return { code: 0, out, err }
  } catch (error) {
    const code = explain(error, output)
    return { code, out, err }
  }
}

describe('the key of the server that runs here', () => {
  test('goes to that server, also where it is named', async () => {
    for (const named of [undefined, url]) await connect({ url: named, dataDir }).call('GET', '/api/v1/organizations')
    expect(asked).toEqual([`Bearer ${OWN_KEY}`, `Bearer ${OWN_KEY}`])
  })

  test('goes to no other', async () => {
    const other = url.replace('127.0.0.1', 'localhost')
    expect(() => connect({ url: other, dataDir })).toThrow(CliError)
    expect(() => connect({ url: other, dataDir })).toThrow(/TOLLGATE_OPERATOR_KEY/)
    await connect({ url: other, operatorKey: 'its own', dataDir }).call('GET', '/api/v1/organizations')
    expect(asked).toEqual(['Bearer its own'])
  })
})

describe('a file', () => {
  test('is there whole or not at all, and writes over no other', async () => {
    const file = join(dataDir, 'report.csv')
    const connection = connect({ url, operatorKey: OWN_KEY, dataDir })
    await expect(connection.saveFile('/broken-off', file)).rejects.toThrow(/broke off/)
    expect(existsSync(file)).toBe(false)
    expect(await connection.saveFile('/', file)).toBe(2)
    await expect(connection.saveFile('/', file)).rejects.toThrow(/is there already/)
    expect([readFileSync(file, 'utf8'), existsSync(`${file}.part`)]).toEqual(['[]', false])
  })
})

describe('a command whose answer is lost', () => {
  test.each([
    ['orgs', 'create', 'Acme', 'a@example.com'],
    ['keys', 'create', 'acme', 'app'],
  ])('%s %s says with which key it asks for the same again', async (...words) => {
    const { code, err } = await run(...words)
    const [, key] = /--idempotency-key (\S+)/.exec(err) ?? []
    expect({ code, sent: requestKeys }).toEqual({ code: 1, sent: [key] })
    await run(...words, '--idempotency-key', key!)
    await run(...words)
    expect(requestKeys[1]).toBe(key)
    expect(requestKeys[2]).not.toBe(key)
  })

  test('that makes nothing says no more than that it broke off', async () => {
    expect((await run('mails', 'resend', 'x')).err).toMatch(/^\S+ does not answer: [^\n]*\n$/)
  })

  test('because nobody listens there says so', async () => {
    const gone = createServer()
    await new Promise<void>((resolve) => void gone.listen(0, '127.0.0.1', resolve))
    const { port } = gone.address() as AddressInfo
    await new Promise<unknown>((resolve) => void gone.close(resolve))
    const nowhere = `http://127.0.0.1:${port}`
    writeRuntime(JSON.stringify({ url: nowhere, operatorKey: OWN_KEY, sandboxUrl: null, pid: process.pid }))
    const { code, err } = await run('orgs', 'list')
    const refused = `connect ECONNREFUSED 127.0.0.1:${port}`
    expect([code, err]).toEqual([1, `${nowhere} does not answer: fetch failed (${refused}).\n`])
  })
})

describe('a command', () => {
  test('takes an address for --url, and nothing else', async () => {
    expect(await run('orgs', 'list', '--url', `${url}/`)).toMatchObject({ code: 0, err: '' })
    for (const wrong of ['nonsense', '127.0.0.1:3000', 'ftp://127.0.0.1']) {
      const { code, err } = await run('orgs', 'list', '--url', wrong)
      expect({ code, err }).toMatchObject({
        code: 2,
        err: expect.stringContaining('http://127.0.0.1:3000 is expected') as string,
      })
    }
  })

  test('that writes a file to standard output takes no --json', async () => {
    const { code, err } = await run('audit', 'export', '--json')
    expect({ code, err }).toMatchObject({ code: 2, err: expect.stringContaining("unknown option '--json'") as string })
  })

  test.each(['migrate', 'push', 'pull', 'doctor', 'init'])('%s, which asks no server, takes no --url', async (name) => {
    const { code, err } = await run(name, ...(name === 'init' ? [join(dataDir, 'new')] : []), '--url', url)
    expect({ code, err }).toMatchObject({ code: 2, err: expect.stringContaining("unknown option '--url'") as string })
  })

  test('takes no option that it leaves out: a subscription does not begin later', async () => {
    const { code, err } = await run('preview', 'subscribe', 'acme', '--plan', 'pro', '--at', 'period_end')
    expect({ code, err, asked }).toEqual({ code: 2, err: expect.stringContaining("unknown option '--at'") as string, asked: [] })
  })

  test('tells the version of this server', async () => {
    const { version } = JSON.parse(readFileSync('server/package.json', 'utf8')) as { version: string }
    expect(await run('--version')).toMatchObject({ code: 0, out: `${version}\n` })
  })

  test('that compares one organization or all is not told to do both', async () => {
    expect(await run('reconcile', 'acme', '--all')).toMatchObject({ code: 2, err: expect.stringContaining('--all') as string })
    expect(asked).toEqual([])
  })

  test('says in a sentence that there is no such directory, before a file is made, or that a file is in its place', async () => {
    const nowhere = join(dataDir, 'nowhere')
    const written = await run('export', 'invoices', '--out', join(nowhere, 'x.csv'))
    expect(written).toMatchObject({ code: 1, err: `There is no directory ${nowhere}; nothing was asked for.\n` })
    expect(asked).toEqual([])
    const begun = await run('init', join(dataDir, RUNTIME_FILE))
    expect(begun).toMatchObject({ code: 1, err: expect.stringMatching(/^[^\n]*runtime\.json[^\n]*\n$/) as string })
  })

  test('takes a file of the server that cannot be read for none', async () => {
    writeRuntime('{"url": "http')
    expect(await run('orgs', 'list')).toMatchObject({
      code: 1,
      err: expect.stringMatching(/^No server is running here/) as string,
    })
  })
})

test.each([
  ['of a database that is not there', { pathname: '/no_such_database' }, 'database "no_such_database" does not exist'],
  ['of a wrong password', { password: 'not-to-be-told' }, 'password authentication failed'],
])('what PostgreSQL says %s is told by each command that needs it', async (_, wrong, sentence) => {
  const databaseUrl = Object.assign(new URL(database.url), wrong)
  const environment = { DATABASE_URL: databaseUrl.href, TOLLGATE_DATA_DIR: dataDir }
  const error = await runMigrations(readConfig(environment)).catch((thrown: unknown) => thrown)
  let said = ''
  expect(explain(error, { out: () => undefined, err: (text) => void (said += text) })).toBe(1)
  const found = (await examine(environment)).find(({ check }) => check === 'database')
  for (const text of [said, found!.detail]) {
    expect(text).toContain(sentence)
    expect(text).not.toContain(databaseUrl.password)
  }
})
