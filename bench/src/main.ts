/**
 * `npm run bench`: measures the server beside its references, in interleaved rounds of one run, prints the figures and writes
 * bench/results/latest.json. `--seconds 2 --rounds 3` are the defaults; `--only http,batch` runs a part; `--keep` makes a whole
 * run the one that the README shows.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, totalmem } from 'node:os'
import { parseArgs } from 'node:util'
import { openCases } from './cases.ts'
import { runExports } from './exports.ts'
import { lineOf, measureCase, withTable, type Figure, type Run } from './figures.ts'
import { runReconcile } from './reconcile.ts'
import { runReport } from './report.ts'
import { runScale } from './scale.ts'
import { openWorld, type World } from './world.ts'

const SCALE_REQUESTS = 100
const REPORT_ROUNDS = 50
const MEMORY_SECONDS = 300
const RESULTS = new URL('../results/', import.meta.url)
const README = new URL('../README.md', import.meta.url)

/** What is no figure of counting; `report` measures exports too. */
const OTHERS = ['scale', 'report', 'export', 'reconcile']

const print = (line: string): void => console.log(line)

type Options = {
  readonly seconds: number
  readonly memorySeconds: number
  readonly rounds: number
  /** How many are reconciled. */
  readonly subscriptions: number
  readonly wants: (name: string) => boolean
}

async function measureAll(world: World, options: Options): Promise<readonly Figure[]> {
  const opened = await openCases(world, { ...options, print })
  try {
    const rows: Figure[] = []
    for (const one of opened.cases) {
      if (!options.wants(one.name)) continue
      const figure = await measureCase(one, options.rounds)
      print(lineOf(figure))
      rows.push(figure)
    }
    return rows
  } finally {
    await opened.close()
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '2' },
      'memory-seconds': { type: 'string', default: String(MEMORY_SECONDS) },
      rounds: { type: 'string', default: '3' },
      subscriptions: { type: 'string', default: '100000' },
      only: { type: 'string' },
      keep: { type: 'boolean', default: false },
    },
  })
  const only = values.only?.split(',')
  const options: Options = {
    seconds: Number(values.seconds),
    memorySeconds: Number(values['memory-seconds']),
    rounds: Number(values.rounds),
    subscriptions: Number(values.subscriptions),
    wants: (name) => only === undefined || only.includes(name),
  }
  const world = await openWorld()
  try {
    const counts = only === undefined || only.some((name) => !OTHERS.includes(name))
    const rows = counts ? await measureAll(world, options) : []
    const scale = options.wants('scale') ? await runScale(world, { requests: SCALE_REQUESTS, print }) : []
    const report = options.wants('report') ? await runReport(world, { rounds: REPORT_ROUNDS, print }) : []
    const exports = options.wants('report') || options.wants('export') ? await runExports(world, print) : []
    const { subscriptions } = options
    const reconcile = options.wants('reconcile') ? await runReconcile(world, { subscriptions, print }) : null
    const run = {
      at: new Date().toISOString(),
      node: process.version,
      machine: machineOf(),
      rows,
      scale,
      report,
      exports,
      reconcile,
    }
    keep('latest.json', run)
    if (!values.keep) return
    if (only !== undefined) throw new Error('Only a whole run is kept.')
    keep('reference.json', run)
    writeFileSync(README, withTable(readFileSync(README, 'utf8'), run))
  } finally {
    await world.close()
  }
}

function machineOf(): Run['machine'] {
  return {
    cores: availableParallelism(),
    model: cpus()[0]?.model ?? 'unknown',
    memoryGb: Math.round(totalmem() / 2 ** 30),
  }
}

function keep(name: string, run: Run): void {
  mkdirSync(RESULTS, { recursive: true })
  writeFileSync(new URL(name, RESULTS), `${JSON.stringify(run, null, 2)}\n`)
}

await main()
