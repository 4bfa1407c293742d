import { AsyncLocalStorage } from 'node:async_hooks'

/** Whose rows the statements of the running work see and change. */
export type Scope =
  | { readonly kind: 'nobody' }
  | { readonly kind: 'organizations'; readonly organizationIds: readonly string[] }
  | { readonly kind: 'system' }

const running = new AsyncLocalStorage<Scope>()

const NOBODY: Scope = { kind: 'nobody' }
const SYSTEM: Scope = { kind: 'system' }

/** The scope that the running work was started in; null outside of any. */
export function currentScope(): Scope | null {
  return running.getStore() ?? null
}

/**
 * Runs `work`, and all that it starts and awaits, in a scope. A transaction or session stays in the scope in which it was
 * begun. A stream that is read after `work` has answered is outside of it: begin its transaction inside.
 */
export function runInScope<Result>(scope: Scope, work: () => Result): Result {
  return running.run(scope, work)
}

/** The work of the server itself and of operators: it sees every organization. */
export function asSystem<Result>(work: () => Result): Result {
  return running.run(SYSTEM, work)
}

/** The work of one organization: rows of others are not there, and cannot be written. */
export function asOrganization<Result>(organizationId: string, work: () => Result): Result {
  return running.run({ kind: 'organizations', organizationIds: [organizationId] }, work)
}

/** Work of which it is not known whose it is: no organization's row is there. */
export function asNobody<Result>(work: () => Result): Result {
  return running.run(NOBODY, work)
}
