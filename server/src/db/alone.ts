import type { Session } from './database.ts'

/** The first of two keys; the second is the task's name. */
const LOCK_SPACE = 7_865_434

/** Runs a task that one server at a time is to do, unless another is at it: then null. A killed server holds nobody back. */
export async function runAlone<Result>(session: Session, task: string, work: () => Promise<Result>): Promise<Result | null> {
  const lock = [LOCK_SPACE, task]
  const { rows } = await session.query<{ held: boolean }>('select pg_try_advisory_lock($1, hashtext($2)) as held', lock)
  if (rows[0]?.held !== true) return null
  try {
    return await work()
  } finally {
    await session.query('select pg_advisory_unlock($1, hashtext($2))', lock)
  }
}
