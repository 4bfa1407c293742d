import type { Queryable } from './queryable.ts'

/** A transaction in which what is asked together travels together. */
const packeted = new WeakSet<Queryable>()

/** Says that a transaction is one in packets (packet.ts). */
export function letTogether(tx: Queryable): void {
  packeted.add(tx)
}

type Asked<Argument, Answer> = {
  readonly argument: Argument
  readonly resolve: (answer: Answer) => void
  readonly reject: (error: unknown) => void
}

/**
 * Makes of one statement for many a function for one: what is asked of it for different organizations in one turn of one transaction in
 * packets becomes one statement. So code that follows one organization through many steps need not know that others take the same steps
 * beside it (docs/decisions/0168-one-statement-for-a-group.md). Anywhere else each call runs by itself: on a pool,
 * two of one turn may be of different scopes.
 * @param run answers each of what is asked, in order
 */
export function together<Argument, Answer>(
  run: (tx: Queryable, asked: readonly Argument[]) => Promise<readonly Answer[]>,
): (tx: Queryable, argument: Argument) => Promise<Answer> {
  const waiting = new WeakMap<Queryable, Asked<Argument, Answer>[]>()

  async function runAll(tx: Queryable, asked: readonly Asked<Argument, Answer>[]): Promise<void> {
    try {
      const answers = await run(
        tx,
        asked.map(({ argument }) => argument),
      )
      asked.forEach(({ resolve }, index) => resolve(answers[index]!))
    } catch (error) {
      for (const { reject } of asked) reject(error)
    }
  }

  return async (tx, argument) => {
    if (!packeted.has(tx)) return (await run(tx, [argument]))[0]!
    return new Promise((resolve, reject) => {
      const others = waiting.get(tx)
      if (others !== undefined) return void others.push({ argument, resolve, reject })
      const asked = [{ argument, resolve, reject }]
      waiting.set(tx, asked)
      // Once everything that could run has run, as a packet itself is sent.
      process.nextTick(() => {
        waiting.delete(tx)
        void runAll(tx, asked)
      })
    })
  }
}

/** The same for a list of rows that name whose they are: each organization gets its own, in the order of the statement. */
export function rowsTogether<Row extends { readonly organizationId: string }>(
  run: (tx: Queryable, organizationIds: readonly string[]) => Promise<readonly Row[]>,
): (tx: Queryable, organizationId: string) => Promise<readonly Row[]> {
  return together(async (tx, organizationIds: readonly string[]) => {
    const rows = Map.groupBy(await run(tx, [...new Set(organizationIds)]), ({ organizationId }) => organizationId)
    return organizationIds.map((id) => rows.get(id) ?? [])
  })
}
