/** The reference of counting: one row update per request, each a transaction of its own, as one would write it first. */
import { json } from 'node:stream/consumers'
import pg from 'pg'
import { runLoop, type LoopResult } from './closed-loop.ts'

export type RowUpdateTask = {
  readonly databaseUrl: string
  readonly balances: readonly string[]
  readonly inFlight: number
  readonly seconds: number
}

const CONNECTIONS = 16

async function run(task: RowUpdateTask): Promise<LoopResult> {
  const pool = new pg.Pool({ connectionString: task.databaseUrl, max: CONNECTIONS })
  const result = await runLoop(task, async (index) => {
    const updated = await pool.query({
      name: 'take',
      text: 'update bench_balances set used = used + 1 where id = $1 and used + 1 <= amount returning used',
      values: [task.balances[index % task.balances.length]],
    })
    return updated.rowCount === 1
  })
  await pool.end()
  return result
}

process.stdout.write(JSON.stringify(await run((await json(process.stdin)) as RowUpdateTask)))
