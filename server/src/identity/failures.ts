import { AsyncLocalStorage } from 'node:async_hooks'
import { databaseUnavailable, isConnectionError } from '../db/database.ts'

type Noted = { failure: unknown }

const asking = new AsyncLocalStorage<Noted>()

/** What came of asking better-auth. `failure` is null, or what failed beneath it: then nothing that the answer says can be relied on. */
export type Asked<Answer> = { readonly answer: Answer; readonly failure: unknown }

/**
 * Asks better-auth, and hears what failed meanwhile. By itself it takes a sign-up or a reset whose mail could not be stored for done, and a
 * user whom a full disk kept from being made for an address that is taken.
 */
export async function hearFailures<Answer>(ask: () => Promise<Answer>): Promise<Asked<Answer>> {
  const noted: Noted = { failure: null }
  const answer = await asking.run(noted, ask)
  return { answer, failure: noted.failure }
}

/** Notes, within `hearFailures`, that what was to be done is not done. */
export function noteFailure(error: unknown): void {
  const noted = asking.getStore()
  if (noted !== undefined) noted.failure ??= error
}

/** The same of an error of better-auth's, where it is the database's: what else fails there it answers for itself. */
export function noteIfDatabase(error: unknown): void {
  if (isConnectionError(error)) noteFailure(databaseUnavailable(error))
}
