import type { ClientBase, Pool, PoolClient } from 'pg'
import type { Connected } from './connecting.ts'

type ParameterStatus = { readonly parameterName: string; readonly parameterValue: string }

/** PostgreSQL tells of them on every connection, when it changes them, since version 14. */
const SAYS_READ_ONLY: ReadonlySet<string> = new Set(['in_hot_standby', 'default_transaction_read_only'])

/** SQLSTATE of a write where none is taken. */
export const READ_ONLY = '25006'

/** A server that takes no writes counts as one that is away: after a failover the address soon leads to another. */
export function refuseReadOnly(): Error {
  return Object.assign(new Error('PostgreSQL takes no writes here: it is a standby, or was set to read only'), {
    code: READ_ONLY,
  })
}

/**
 * Leaves a server that takes no writes any more (a failover that keeps connections open): once one connection is told so, none of those that
 * are open is lent again, and the next ones are made anew, to wherever the address leads by then.
 */
export function leaveReadOnly(pool: Pool): void {
  const open = new Set<PoolClient>()
  const lent = new Set<PoolClient>()
  const left = new WeakSet<PoolClient>()

  function leaveAll(): void {
    for (const client of open) {
      left.add(client)
      // An idle one that is lost is taken out of its pool; one that is lent ends when it is given back.
      if (!lent.has(client)) connectionOf(client).stream.destroy(refuseReadOnly())
    }
  }

  pool.on('connect', (client) => {
    open.add(client)
    connectionOf(client).on('parameterStatus', ({ parameterName, parameterValue }: ParameterStatus) => {
      if (SAYS_READ_ONLY.has(parameterName) && parameterValue === 'on') leaveAll()
    })
  })
  pool.on('acquire', (client) => lent.add(client))
  pool.on('release', (_error: Error, client) => {
    lent.delete(client)
    // A client that is ending is not kept.
    if (left.has(client)) void client.end()
  })
  pool.on('remove', (client) => {
    open.delete(client)
    lent.delete(client)
  })
}

const connectionOf = (client: ClientBase): Connected['connection'] => (client as ClientBase & Connected).connection
