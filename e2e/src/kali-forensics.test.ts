import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { createPlace, runCli, startProgram, type Program } from './process.ts'

let program: Program
let place: Awaited<ReturnType<typeof createPlace>>
const keys: Record<string, string> = {}

beforeAll(async () => {
  place = await createPlace()
  program = await startProgram({ ...place, program: { kind: 'example', name: 'kali-forensics' } })
  for (const id of ['one', 'two']) {
    await runCli(program, ['orgs', 'create', id, `${id}@example.com`, '--id', id])
    keys[id] = (await runCli<{ key: string }>(program, ['keys', 'create', id, 'app'])).key
  }
})

afterAll(async () => {
  await program?.end('SIGINT')
  await place?.remove()
})

const ask = async (path: string, key?: string, headers: Record<string, string> = {}): Promise<number> => {
  const credentials: Record<string, string> = key === undefined ? {} : { authorization: `Bearer ${key}` }
  return (await fetch(program.runtime.url + path, { headers: { ...credentials, ...headers } })).status
}

async function counted(tenant: string): Promise<unknown> {
  const path = `/api/v1/usage/report?meter=api_call&period=calendar_month&organization_id=${tenant}`
  const answer = await fetch(program.runtime.url + path, {
    headers: { authorization: `Bearer ${program.runtime.operatorKey}` },
  })
  const { rows } = (await answer.json()) as { rows: { quantity: number }[] }
  return rows.reduce((sum, { quantity }) => sum + quantity, 0)
}

describe('Kali Forensics', () => {
  it('KF-10 counts the calls of those who may call, for their own tenant', async () => {
    expect(await ask('/api/v1/cases/7?tenant_id=one')).toBe(401)
    expect(await ask('/api/v1/cases/7?tenant_id=one', 'tg_wrong')).toBe(401)
    expect(await ask('/api/v1/cases/7?tenant_id=one', keys['two'])).toBe(404)
    expect(await ask('/api/v1/cases/7', keys['two'], { 'x-tenant-id': 'one' })).toBe(404)
    expect(await ask('/api/v1/cases/7?tenant_id=one', keys['one'])).toBe(200)
    expect(await ask('/api/v1/cases/7', keys['one'], { 'x-tenant-id': 'one' })).toBe(200)
    expect(await ask('/api/v1/cases/7', keys['one'])).toBe(200)
    expect(await ask('/api/v1/cases/7?tenant_id=one', program.runtime.operatorKey)).toBe(200)
    await vi.waitFor(async () => expect(await counted('one')).toBe(4), { timeout: 60_000 })
    expect(await counted('two')).toBe(0)
  })
})
