import { execFile, execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createPlace, ROOT, runCli, startProgram, type Program } from './process.ts'

const run = promisify(execFile)
const COLLECTION = 'docs/postman/mini-rag.postman_collection.json'
let program: Program
let place: Awaited<ReturnType<typeof createPlace>>
let key: string

beforeAll(async () => {
  place = await createPlace()
  program = await startProgram({ ...place, program: { kind: 'example', name: 'mini-rag' } })
  await runCli(program, ['orgs', 'create', 'Acme', 'a@example.com', '--id', 'acme'])
  key = (await runCli<{ key: string }>(program, ['keys', 'create', 'acme', 'app', '--scopes', 'admin'])).key
})

afterAll(async () => {
  await program?.end('SIGINT')
  await place?.remove()
})

const call = (method: string, path: string, body?: unknown, bearer = key) =>
  fetch(program.runtime.url + path, {
    method,
    headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })

describe('Mini-RAG', () => {
  it('MR-7 answers from the caller’s own workspace only', async () => {
    await call('POST', '/api/v1/billing/subscribe', { plan: 'team' })
    expect((await call('POST', '/api/v1/sources', { name: 'note', text: 'Otters sleep on their backs.' })).status).toBe(201)
    for (const path of ['/api/v1/ask', '/api/ask']) {
      const own = (await (await call('POST', path, { question: 'How do otters sleep?' })).json()) as { answer: string }
      expect([path, own.answer]).toEqual([path, 'Otters sleep on their backs.'])
    }
    await runCli(program, ['orgs', 'create', 'Other', 'o@example.com', '--id', 'other'])
    const other = await runCli<{ key: string }>(program, ['keys', 'create', 'other', 'app'])
    const foreign = await call('POST', '/api/v1/ask', { question: 'How do otters sleep?' }, other.key)
    expect(await foreign.json()).toEqual({ answer: 'Nothing that was ingested answers this.', sources: [] })
  })

  it('MR-7 asking needs no more than read, and is counted', async () => {
    const reader = await runCli<{ key: string }>(program, ['keys', 'create', 'acme', 'asker', '--scopes', 'read'])
    const asked = async () => {
      const usage = await call('GET', '/api/v1/usage?balance=question', undefined, reader.key)
      return ((await usage.json()) as { credits_used: number }).credits_used
    }
    const before = await asked()
    const answer = await call('POST', '/api/v1/ask', { question: 'How do otters sleep?' }, reader.key)
    expect([answer.status, answer.headers.has('x-credits-used')]).toEqual([200, true])
    expect(await asked()).toBe(before + 1)
    const writer = await runCli<{ key: string }>(program, ['keys', 'create', 'acme', 'writes', '--scopes', 'write'])
    const refused = await call('POST', '/api/v1/ask', { question: 'Why?' }, writer.key)
    expect([refused.status, await refused.json()]).toEqual([403, { detail: 'This needs the scope "read" in an organization.' }])
  })

  it('MR-13 an operator’s override lets ingest without a subscription', async () => {
    await runCli(program, ['orgs', 'create', 'Guest', 'g@example.com', '--id', 'guest'])
    const guest = await runCli<{ key: string }>(program, ['keys', 'create', 'guest', 'app', '--scopes', 'admin'])
    const note = { name: 'note', text: 'Otters hold hands.' }
    expect((await call('POST', '/api/v1/sources', note, guest.key)).status).toBe(402)
    const override = { billing_status: 'trialing', trial_ends_at: '2099-01-01T00:00:00Z', reason: 'a pilot' }
    const patched = await call('PATCH', '/api/v1/admin/billing/guest', override, program.runtime.operatorKey)
    expect(patched.status).toBe(200)
    expect((await call('POST', '/api/v1/sources', note, guest.key)).status).toBe(201)
  })

  it('MR-8 MR-9 MR-10 writing needs the scope, and every legacy path is gated too', async () => {
    const reader = await runCli<{ key: string }>(program, ['keys', 'create', 'acme', 'reader', '--scopes', 'read'])
    for (const path of [
      '/api/v1/ingest/urls',
      '/api/ingest/urls',
      '/api/ingest_urls',
      '/api/v1/ingest/files',
      '/api/ingest/files',
      '/api/ingest_files',
      '/api/v1/sources',
      '/api/sources',
    ]) {
      expect([path, (await call('POST', path, {}, reader.key)).status]).toEqual([path, 403])
      expect([path, (await call('POST', path, {}, 'tg_unknown')).status]).toEqual([path, 401])
    }
    expect((await call('GET', '/api/v1/sources', undefined, reader.key)).status).toBe(200)
    const bare = await runCli<{ key: string }>(program, ['keys', 'create', 'other', 'writer', '--scopes', 'admin'])
    for (const path of [
      '/api/v1/ingest/urls',
      '/api/ingest_urls',
      '/api/v1/ingest/files',
      '/api/ingest_files',
      '/api/v1/sources',
    ]) {
      const refused = await call('POST', path, {}, bare.key)
      const detail = "Workspace billing status 'none' does not permit ingestion."
      expect([path, refused.status, await refused.json()]).toEqual([path, 402, { detail }])
    }
  })

  it('MR-15 the Postman collection is the one that the OpenAPI document makes', async () => {
    const made = join(place.dataDir, 'collection.json')
    await run('bash', ['scripts/export_postman.sh', program.runtime.url, made], { cwd: ROOT })
    expect(readFileSync(join(ROOT, COLLECTION), 'utf8')).toBe(readFileSync(made, 'utf8'))
    const collection = JSON.parse(readFileSync(made, 'utf8')) as {
      item: { name: string; item: { request: { url: { raw: string } } }[] }[]
    }
    const urls = collection.item.flatMap(({ item }) => item.map(({ request }) => request.url.raw))
    expect(urls).toEqual(expect.arrayContaining(['{{baseUrl}}/api/v1/ask', '{{baseUrl}}/api/v1/billing/checkout']))
  })
})

// A machine without Python can still run everything else.
const python = (() => {
  try {
    return execFileSync('python3', ['--version'], { encoding: 'utf8' }).startsWith('Python 3')
  } catch {
    return false
  }
})()

describe.runIf(python)('MR-16 the Python client', () => {
  const script = async (text: string, url: string): Promise<unknown> => {
    const file = join(place.dataDir, 'script.py')
    writeFileSync(
      file,
      `import json, sys\nsys.path.insert(0, ${JSON.stringify(join(ROOT, 'clients'))})\nfrom sdk import ApiError, Client, Unreachable\nclient = Client(${JSON.stringify(url)}, ${JSON.stringify(key)}, retries=2)\n${text}\n`,
    )
    return JSON.parse((await run('python3', [file])).stdout)
  }

  it('asks, ingests and reads billing, and tells of a refusal', async () => {
    const told = await script(
      `
names = [s["name"] for s in client.ingest_files([${JSON.stringify(join(ROOT, 'LICENSE'))}])["sources"]]
client.ingest_urls(["https://example.com/a"])
key = "the same"
first = client.consume("question", idempotency_key=key)
again = client.consume("question", idempotency_key=key)
try:
    client.checkout(plan="team")
except ApiError as error:
    refused = [error.status, error.code]
try:
    client.entitlement("a feature/?")
except ApiError as error:
    unknown = [error.status, error.code, client.entitlements()]
print(json.dumps([names, unknown, len(client.sources()["sources"]) >= 2, first == again, client.subscription()["tier"], refused, client.portal()["url"][:4]]))
`,
      program.runtime.url,
    )
    expect(told).toEqual([['LICENSE'], [422, 'unknown_feature', []], true, true, 'team', [409, 'subscription_exists'], 'http'])
  })

  it('repeats what is safe to repeat, with the same key, and nothing else', async () => {
    const seen: string[] = []
    const server: Server = createServer((request, response) => {
      const chunks: Buffer[] = []
      request.on('data', (chunk: Buffer) => chunks.push(chunk))
      request.on('end', () => {
        seen.push(`${request.method} ${request.url} ${Buffer.concat(chunks).toString()}`)
        response.writeHead(seen.length % 2 === 1 ? 502 : 200, { 'content-type': 'application/json' }).end('{"ok": true}')
      })
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const told = await script(
      `
client.consume("question")
try:
    client.ingest_urls(["https://example.com/a"])
    lost = None
except ApiError as error:
    lost = error.status
print(json.dumps(lost))
`,
      url,
    )
    server.close()
    expect(told).toBe(502)
    expect(seen).toHaveLength(3)
    expect(seen[0]).toBe(seen[1])
    expect(seen[2]).toContain('/api/v1/ingest/urls')
    expect(await script(`try:\n    client.ingest_urls([])\nexcept Unreachable:\n    print(json.dumps("unreachable"))`, url)).toBe(
      'unreachable',
    )
  })

  it('takes an answer that breaks off for none, and repeats what is safe to repeat', async () => {
    let asked = 0
    const server: Server = createServer((_request, response) => {
      asked += 1
      if (asked === 3) return void response.writeHead(200, { 'content-type': 'application/json' }).end('{"tier": "team"}')
      response.writeHead(asked === 1 ? 200 : 503, { 'content-length': 100 })
      response.write('{', () => response.destroy())
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    expect(await script('print(json.dumps(client.subscription()["tier"]))', url)).toBe('team')
    server.close()
  })

  it('tells no key in an error', async () => {
    const told = await script(
      `
errors = []
for key in ["tg_one\\ntg_two", "tg_\\u043a"]:
    try:
        Client("http://127.0.0.1:1", key, retries=0).subscription()
    except ValueError as error:
        errors.append("tg_" in str(error))
print(json.dumps(errors))
`,
      'http://127.0.0.1:1',
    )
    expect(told).toEqual([false, false])
  })
})
