/** The reference of counting: one row update per request, each a transaction of its own, as one would write it first. */
import { json } from 'node:stream/consumers'
import pg from 'pg'

export type RowUpdateTask = {
  readonly databaseUrl: string
  readonly balances: readonly string[]
  readonly inFlight: number
  readonly seconds: number
}

const CONNECTIONS = 16

async function run(task: RowUpdateTask): Promise<{ requests: number; seconds: number; allowed: number }> {
  const pool = new pg.Pool({ connectionString: task.databaseUrl, max: CONNECTIONS })
  let requests = 0
  let allowed = 0

  async function updateUntil(until: number): Promise<void> {
    while (performance.now() < until) {
      requests += 1
      const updated = await pool.query({
        name: 'take',
        text: 'update bench_balances set used = used + 1 where id = $1 and used + 1 <= amount returning used',
        values: [task.balances[requests % task.balances.length]],
      })
      allowed += updated.rowCount ?? 0
    }
  }

  const began = performance.now()
  await Promise.all(Array.from({ length: task.inFlight }, () => updateUntil(began + task.seconds * 1_000)))
  const seconds = (performance.now() - began) / 1_000
  await pool.end()
  return { requests, seconds, allowed }
}

process.stdout.write(JSON.stringify(await run((await json(process.stdin)) as RowUpdateTask)))
