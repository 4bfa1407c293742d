import { join } from 'node:path'
import { Client } from 'pg'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { startEmbeddedPostgres } from '../../server/src/db/embedded-postgres.ts'
import { createCaller } from './http.ts'
import { consume, createCustomer, createLoop, type Customer } from './loop.ts'
import { createPlace, startProgram, waitUntil, type Program } from './process.ts'

let place: Awaited<ReturnType<typeof createPlace>>
let program: Program

beforeEach(async () => {
  place = await createPlace()
  program = await startProgram({ ...place, program: { kind: 'dev' } })
})

afterEach(async () => {
  await program.end('SIGINT')
  await place.remove()
})

/** Sends uses until stopped; answers the keys of those that were answered as allowed. */
function sendUses(customer: Customer): { stop(): Promise<ReadonlySet<string>> } {
  const answered = new Set<string>()
  const stopping = new AbortController()
  const worker = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      const key = crypto.randomUUID()
      const answer = await consume(customer.app, 'episode_search', 1, key).catch(() => null)
      if (answer?.body['allowed'] === true) answered.add(key)
      if (answer === null) return
    }
  }
  const workers = Array.from({ length: 8 }, worker)
  return {
    async stop() {
      stopping.abort()
      await Promise.all(workers)
      return answered
    },
  }
}

it('counts every answered call once and handles every event once, killed in the middle of both', async () => {
  const loop = createLoop(program, () => undefined)
  const customer = await createCustomer(loop, 'Killed')
  const subscribed = await customer.app.post('/api/v1/billing/subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
  expect(subscribed.status, JSON.stringify(subscribed.body)).toBe(200)
  const { key } = customer
  const sent: string[] = []
  for (let round = 0; round < 3; round++) {
    const current: Customer = { ...customer, app: createCaller(program.runtime.url, key) }
    const uses = sendUses(current)
    // Webhooks are on their way while the server dies: a change of plan makes a handful of them.
    const tier = round % 2 === 0 ? 'enterprise' : 'pro'
    const changing = current.app.post('/api/v1/billing/upgrade', { new_tier: tier }).catch(() => null)
    await waitUntil('some uses to be answered', 60_000, async () => (await usedBy(current)) > round * 20 + 20)
    await program.end('SIGKILL')
    await changing
    sent.push(...(await uses.stop()))
    program = await startProgram({ ...place, program: { kind: 'dev' } })
  }
  const after: Customer = { ...customer, app: createCaller(program.runtime.url, key) }
  // Each answered call again, with its key: the first answer, nothing counted twice.
  const before = await usedBy(after)
  for (const each of sent) {
    const repeated = await consume(after.app, 'episode_search', 1, each)
    expect(repeated.body['allowed']).toBe(true)
  }
  expect(await usedBy(after)).toBe(before)
  await waitUntil('every event to be handled', 60_000, async () => {
    const open = await loop.operator.get('/api/v1/stripe-events?status=pending')
    return (open.body['events'] as unknown[]).length === 0
  })
  await program.end('SIGINT')
  const keys = await readCountedKeys(customer.organizationId)
  expect(new Set(keys).size).toBe(keys.length)
  expect(sent.filter((each) => !keys.includes(each))).toEqual([])
  expect(before).toBe(keys.length / 10)
})

/** The keys that are stored as counted, read from the database itself after the server has stopped. */
async function readCountedKeys(organizationId: string): Promise<readonly string[]> {
  const postgres = await startEmbeddedPostgres({ directory: join(place.dataDir, 'postgres') })
  const client = new Client({ connectionString: postgres.url })
  try {
    await client.connect()
    const { rows } = await client.query<{ key: string }>(
      'select idempotency_key as key from usage_events where organization_id = $1 and refusal is null',
      [organizationId],
    )
    return rows.map((row) => row.key)
  } finally {
    await client.end()
    await postgres.stop()
  }
}

async function usedBy(customer: Customer): Promise<number> {
  return Number((await customer.app.get('/api/v1/usage')).body['credits_used'])
}
