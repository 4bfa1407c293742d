import { execFileSync } from 'node:child_process'
import type { ServerProcess } from './processes.ts'
import { seedMonth, SPAN } from './report.ts'
import { startTollgate, type Customer, type World } from './world.ts'

export type ExportRow = {
  readonly format: string
  readonly rows: number
  readonly seconds: number
  /** What the resident memory of a server grew by at most, in MiB, that had answered nothing before. */
  readonly grewMb: number
  readonly holds: boolean
}

const EXPORTED = 1_000_000
const WANTED_MB = 100
const SAMPLE_MS = 100

/** Streams a million events, each time from a server that was just started, and watches its memory. */
export async function runExports(world: World, print: (line: string) => void): Promise<readonly ExportRow[]> {
  const customer = await world.newCustomer()
  await seedMonth(world, customer, EXPORTED)
  await world.db.query('vacuum analyze')
  const rows: ExportRow[] = []
  for (const format of ['csv', 'ndjson']) {
    const server = await startTollgate(world.databaseUrl)
    try {
      const row = await measureExport(server, customer, format)
      print(
        `export of ${row.rows.toLocaleString('en-US')} events as ${format}: ${row.seconds} s, memory of a server just started + ${row.grewMb} MiB${row.holds ? '' : '   ABOVE'}`,
      )
      rows.push(row)
    } finally {
      await server.stop()
    }
  }
  return rows
}

async function measureExport(server: ServerProcess, customer: Customer, format: string): Promise<ExportRow> {
  const before = memoryOf(server)
  let most = before
  const watching = setInterval(() => {
    most = Math.max(most, memoryOf(server))
  }, SAMPLE_MS)
  const began = performance.now()
  const rows = await countExported(server, customer, format)
  const seconds = Number(((performance.now() - began) / 1_000).toFixed(1))
  clearInterval(watching)
  if (rows !== EXPORTED) throw new Error(`${rows} events were exported, ${EXPORTED} are stored.`)
  const grewMb = Math.round(most - before)
  return { format, rows, seconds, grewMb, holds: grewMb < WANTED_MB }
}

async function countExported({ port }: ServerProcess, { apiKey }: Customer, format: string): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${port}/api/v1/usage/events/export?${SPAN}&format=${format}`, {
    headers: { 'x-api-key': apiKey },
  })
  let lines = format === 'csv' ? -1 : 0
  for await (const chunk of response.body!) for (const byte of chunk) if (byte === 10) lines += 1
  return lines
}

/** A process's resident memory in MiB. */
function memoryOf({ pid }: ServerProcess): number {
  return Number(execFileSync('ps', ['-o', 'rss=', '-p', String(pid)], { encoding: 'utf8' })) / 1_024
}
