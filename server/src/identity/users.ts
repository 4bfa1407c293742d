import { insertAuditEntry } from '../audit/store.ts'
import type { Db } from '../db/database.ts'
import type { Clock } from '../lib/clock.ts'
import { DomainError } from '../lib/errors.ts'
import type { UserId } from '../lib/ids.ts'
import type { Asker } from '../organizations/actions.ts'
import { lockUserById, updateOperator, type User } from './users-store.ts'

export type UsersContext = { readonly db: Db; readonly clock: Clock }

/**
 * Makes a user an operator, who sees every organization, or an ordinary user again. It counts from their next request on.
 * @throws DomainError `not_found`
 */
export async function setOperator(
  { db, clock }: UsersContext,
  { id, operator }: { readonly id: UserId; readonly operator: boolean },
  asker: Asker,
): Promise<User> {
  return db.transaction(async (tx) => {
    const user = await lockUserById(tx, id)
    if (user === null) throw new DomainError('not_found', 'There is no such user.')
    if (user.operator === operator) return user
    await updateOperator(tx, { id, operator })
    await insertAuditEntry(tx, {
      organizationId: null,
      ...asker,
      action: operator ? 'operator.made' : 'operator.unmade',
      target: id,
      before: { operator: user.operator },
      after: { operator, email: user.email },
      at: clock.now(),
    })
    return { ...user, operator }
  })
}
