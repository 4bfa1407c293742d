import type { ClientBase, Pool } from 'pg'

/** What runs one statement: the pool, or the client of a transaction. */
export type Queryable = Pick<Pool | ClientBase, 'query'>
