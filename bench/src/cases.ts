import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import {
  consumeInProcess,
  consumeInRedis,
  insertRaw,
  makeBalances,
  makeOrganizations,
  makeRawTable,
  updateRows,
} from './counting-cases.ts'
import type { Case } from './figures.ts'
import { batchOverHttp, checkOverHttp, consumeOverHttp, getBare, postBare } from './http-cases.ts'
import { memoryCase } from './memory.ts'
import { hasRedis, startRedis } from './redis-server.ts'
import { webhookCases } from './webhook-cases.ts'
import type { World } from './world.ts'

const CROWD = 10_000

export type CaseOptions = {
  /** How long each round lasts. */
  readonly seconds: number
  /** How long the server is under load for its memory. */
  readonly memorySeconds: number
  readonly print: (line: string) => void
}

export type Cases = { readonly cases: readonly Case[]; close(): Promise<void> }

/** The figures of counting. What they need is made here: organizations, tables, a Redis where the machine has one. */
export async function openCases(world: World, options: CaseOptions): Promise<Cases> {
  const inRedis = await redisCases(world, options)
  const cases = [...(await httpCases(world, options)), ...inRedis.cases, await crowdCase(world, options)]
  const webhooks = webhookCases(world)
  return {
    cases: [...cases, ...webhooks.cases, await memoryCase(world, options.memorySeconds)],
    async close() {
      await webhooks.close()
      await inRedis.close()
    },
  }
}

async function httpCases(world: World, { seconds }: CaseOptions): Promise<readonly Case[]> {
  const [single, batch, check] = [await world.newCustomer(), await world.newCustomer(), await world.newCustomer()]
  // Who is asked about is somebody who uses: before the first use of a period, a check also has to work out the allowance that it would open.
  await consumeOverHttp(world, check, 0.1)
  await makeRawTable(world)
  return [
    {
      name: 'http',
      title: 'consume over HTTP, 64 connections',
      reference: 'bare node:http POST, same JSON',
      unit: '/s',
      wanted: 0.5,
      better: 'more',
      measure: () => consumeOverHttp(world, single, seconds),
      measureReference: () => postBare(world, single, seconds),
    },
    {
      name: 'batch',
      title: 'batch of 100 consume over HTTP, items',
      reference: 'raw insert … select unnest, 1,000 rows each',
      unit: '/s',
      wanted: 0.5,
      better: 'more',
      measure: () => batchOverHttp(world, batch, seconds),
      measureReference: () => insertRaw(world, batch.organizationId, seconds),
    },
    {
      name: 'check',
      title: 'check over HTTP, 64 connections',
      reference: 'bare node:http GET',
      unit: '/s',
      wanted: 0.6,
      better: 'more',
      measure: () => checkOverHttp(world, check, seconds),
      measureReference: () => getBare(world, check, seconds),
    },
  ]
}

async function redisCases(world: World, { seconds, print }: CaseOptions): Promise<Cases> {
  if (!hasRedis()) {
    print('redis-server is not there: the hot balance is left out.')
    return { cases: [], close: () => Promise.resolve() }
  }
  const hot = await makeOrganizations(world, 1)
  const directory = mkdtempSync(join(tmpdir(), 'tollgate-bench-redis-'))
  const kept = await startRedis({ durable: true, directory })
  const inMemory = await startRedis({ durable: false, directory })
  const common = { unit: '/s', better: 'more', measure: () => consumeInProcess(world, hot, seconds) } as const
  return {
    cases: [
      {
        ...common,
        name: 'hot',
        title: 'consume in process, one hot balance, 2 processes',
        reference: 'Redis Lua script, in memory only',
        wanted: 3,
        measureReference: () => consumeInRedis(inMemory, seconds),
      },
      {
        ...common,
        name: 'hot-durable',
        title: 'the same beside a Redis that answers when durable',
        reference: 'Redis Lua script, appendfsync always',
        wanted: 3,
        measureReference: () => consumeInRedis(kept, seconds),
      },
    ],
    async close() {
      await Promise.all([kept.stop(), inMemory.stop()])
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

async function crowdCase(world: World, { seconds }: CaseOptions): Promise<Case> {
  const crowd = await makeOrganizations(world, CROWD)
  const rows = await makeBalances(world, CROWD)
  return {
    name: 'crowd',
    title: 'consume in process, 10,000 balances, 2 processes',
    reference: 'one row update per request',
    unit: '/s',
    wanted: 7,
    better: 'more',
    measure: () => consumeInProcess(world, crowd, seconds),
    measureReference: () => updateRows(world, rows, seconds),
  }
}
