/**
 * `npm run bench`: measures the server beside its references, in interleaved rounds of one run, prints the table and writes
 * bench/results/latest.json. `--seconds 2 --rounds 3` are the defaults; `--only http,batch` runs a part.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { consumeInProcess, insertRaw, makeBalances, makeOrganizations, makeRawTable, updateRows } from './counting-cases.ts'
import { batchOverHttp, checkOverHttp, consumeOverHttp, getBare, postBare, type Measured } from './http-cases.ts'
import { runScale } from './scale.ts'
import { openWorld, type World } from './world.ts'

type Case = {
  readonly name: string
  readonly title: string
  readonly reference: string
  /** The ratio to the reference that the issues ask for. */
  readonly wanted: number
  readonly measure: () => Promise<Measured>
  readonly measureReference: () => Promise<Measured>
}

type Row = {
  readonly name: string
  readonly title: string
  readonly reference: string
  readonly perSecond: number
  readonly referencePerSecond: number
  readonly ratio: number
  readonly wanted: number
  readonly p50Ms: number | null
  readonly p99Ms: number | null
}

const CROWD = 10_000
const SCALE_REQUESTS = 100

async function casesOf(world: World, seconds: number): Promise<readonly Case[]> {
  const [single, batch, check] = [await world.newCustomer(), await world.newCustomer(), await world.newCustomer()]
  const hot = await makeOrganizations(world, 1)
  const crowd = await makeOrganizations(world, CROWD)
  const hotRow = await makeBalances(world, 1)
  const crowdRows = await makeBalances(world, CROWD)
  await makeRawTable(world)
  return [
    {
      name: 'http',
      title: 'consume over HTTP, 64 connections',
      reference: 'bare node:http, same JSON',
      wanted: 0.5,
      measure: () => consumeOverHttp(world, single, seconds),
      measureReference: () => postBare(world, single, seconds),
    },
    {
      name: 'check',
      title: 'check over HTTP, 64 connections',
      reference: 'bare node:http GET',
      wanted: 0.6,
      measure: () => checkOverHttp(world, check, seconds),
      measureReference: () => getBare(world, check, seconds),
    },
    {
      name: 'batch',
      title: 'batch of 100 consume over HTTP, items',
      reference: 'raw insert … unnest of the rows',
      wanted: 0.5,
      measure: () => batchOverHttp(world, batch, seconds),
      measureReference: () => insertRaw(world, batch.organizationId, seconds),
    },
    {
      name: 'hot',
      title: 'consume in process, one hot balance, 2 processes',
      reference: 'row update per request',
      wanted: 20,
      measure: () => consumeInProcess(world, hot, seconds),
      measureReference: () => updateRows(world, hotRow, seconds),
    },
    {
      name: 'crowd',
      title: 'consume in process, 10,000 balances, 2 processes',
      reference: 'row update per request',
      wanted: 7,
      measure: () => consumeInProcess(world, crowd, seconds),
      measureReference: () => updateRows(world, crowdRows, seconds),
    },
  ]
}

type Rounds = { readonly rounds: number; readonly print: (line: string) => void }

/** Interleaves a case and its reference, so that what else the machine does touches both; the median of each counts. */
async function runCase(one: Case, { rounds, print }: Rounds): Promise<Row> {
  await one.measure()
  await one.measureReference()
  const measured: Measured[] = []
  const references: Measured[] = []
  for (let round = 0; round < rounds; round += 1) {
    measured.push(await one.measure())
    references.push(await one.measureReference())
  }
  const own = medianOf(measured)
  const reference = medianOf(references)
  const row: Row = {
    name: one.name,
    title: one.title,
    reference: one.reference,
    perSecond: Math.round(own.perSecond),
    referencePerSecond: Math.round(reference.perSecond),
    ratio: Number((own.perSecond / reference.perSecond).toFixed(2)),
    wanted: one.wanted,
    p50Ms: own.p50Ms === undefined ? null : Number(own.p50Ms.toFixed(1)),
    p99Ms: own.p99Ms === undefined ? null : Number(own.p99Ms.toFixed(1)),
  }
  print(lineOf(row))
  return row
}

function medianOf(measured: readonly Measured[]): Measured {
  return measured.toSorted((a, b) => a.perSecond - b.perSecond)[Math.floor(measured.length / 2)]!
}

function lineOf({ title, perSecond, reference, referencePerSecond, ratio, wanted, p99Ms }: Row): string {
  const number = (value: number): string => value.toLocaleString('en-US').padStart(9)
  const latency = p99Ms === null ? '' : `, p99 ${p99Ms} ms`
  return `${title.padEnd(50)}${number(perSecond)}/s   ${reference.padEnd(34)}${number(referencePerSecond)}/s   ratio ${ratio} (wanted ${wanted})${latency}`
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { seconds: { type: 'string', default: '2' }, rounds: { type: 'string', default: '3' }, only: { type: 'string' } },
  })
  const only = values.only?.split(',')
  const world = await openWorld()
  try {
    const rows: Row[] = []
    const counting = only === undefined || only.some((name) => name !== 'scale')
    for (const one of counting ? await casesOf(world, Number(values.seconds)) : []) {
      if (only && !only.includes(one.name)) continue
      rows.push(await runCase(one, { rounds: Number(values.rounds), print: (line) => console.log(line) }))
    }
    const print = (line: string): void => console.log(line)
    const scale = only === undefined || only.includes('scale') ? await runScale(world, { requests: SCALE_REQUESTS, print }) : []
    const directory = fileURLToPath(new URL('../results/', import.meta.url))
    mkdirSync(directory, { recursive: true })
    const machine = {
      cores: availableParallelism(),
      model: cpus()[0]?.model ?? 'unknown',
      memoryGb: Math.round(totalmem() / 2 ** 30),
    }
    const result = { at: new Date().toISOString(), node: process.version, machine, rows, scale }
    writeFileSync(`${directory}latest.json`, `${JSON.stringify(result, null, 2)}\n`)
  } finally {
    await world.close()
  }
}

await main()
