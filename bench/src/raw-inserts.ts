/** The reference of batches: the same rows by `insert … select unnest`, 1,000 a statement, one after the other. */
import { randomUUID } from 'node:crypto'
import { json } from 'node:stream/consumers'
import pg from 'pg'
import type { LoopResult } from './closed-loop.ts'

export type RawInsertTask = {
  readonly databaseUrl: string
  readonly organizationId: string
  readonly seconds: number
  readonly run: string
}

const ROWS = 1_000

/** The columns of a usage event as the server fills them for a plain `consume`, with their types. */
const COLUMNS: readonly (readonly [name: string, type: string])[] = [
  ['organization_id', 'text'],
  ['recorded_at', 'timestamptz'],
  ['id', 'uuid'],
  ['verb', 'text'],
  ['idempotency_key', 'text'],
  ['meter', 'text'],
  ['quantity', 'bigint'],
  ['occurred_at', 'timestamptz'],
  ['dated', 'boolean'],
  ['counted', 'bigint'],
  ['drawn', 'bigint'],
  ['overage', 'bigint'],
  ['balance', 'text'],
  ['plan_key', 'text'],
  ['period', 'text'],
  ['period_start', 'timestamptz'],
  ['period_end', 'timestamptz'],
  ['after_amount', 'bigint'],
  ['after_used', 'bigint'],
  ['after_overage', 'bigint'],
  ['after_reserved', 'bigint'],
]

const names = COLUMNS.map(([name]) => name).join(', ')
const arrays = COLUMNS.map(([, type], index) => `$${index + 1}::${type}[]`).join(', ')
const STATEMENT = `insert into bench_events (${names}) select * from unnest(${arrays})`

async function run(task: RawInsertTask): Promise<LoopResult> {
  const pool = new pg.Pool({ connectionString: task.databaseUrl, max: 1 })
  let rows = 0

  async function insertUntil(until: number): Promise<void> {
    while (performance.now() < until) {
      const first = rows
      rows += ROWS
      await pool.query({ name: 'insert', text: STATEMENT, values: columnsOf(task, first) })
    }
  }

  const began = performance.now()
  await insertUntil(began + task.seconds * 1_000)
  const seconds = (performance.now() - began) / 1_000
  await pool.end()
  return { requests: rows, allowed: rows, perSecond: rows / seconds }
}

function columnsOf({ organizationId, run: name }: RawInsertTask, first: number): unknown[][] {
  const now = new Date().toISOString()
  const same = (value: unknown): unknown[] => Array.from({ length: ROWS }, () => value)
  const each = (value: (index: number) => unknown): unknown[] => Array.from({ length: ROWS }, (_, index) => value(first + index))
  const million = '1000000'
  return [
    same(organizationId),
    same(now),
    each(() => randomUUID()),
    same('consume'),
    each((index) => `${name}-${index}`),
    same('calls'),
    same(million),
    same(now),
    same(false),
    same(million),
    same(million),
    same('0'),
    same('calls'),
    same('free'),
    same('year'),
    same('2026-01-01T00:00:00.000Z'),
    same('2027-01-01T00:00:00.000Z'),
    same('1000000000000000'),
    each((index) => String(index * 1_000_000)),
    same('0'),
    same('0'),
  ]
}

process.stdout.write(JSON.stringify(await run((await json(process.stdin)) as RawInsertTask)))
