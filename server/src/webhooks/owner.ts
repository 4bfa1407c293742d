import { organizationOrAll, requireScope, type Principal } from '../auth/principal.ts'
import { ALL_ORGANIZATIONS } from '../events/types.ts'

/**
 * Whose endpoints a call is about: an admin's organization's; an operator's is the one that is named, or else the operators' own.
 * @throws DomainError `unauthenticated`, `forbidden`, `not_found`
 */
export function ownerOf(caller: Principal | null, named: string | undefined): string {
  return organizationOrAll(requireScope(caller, 'admin'), named) ?? ALL_ORGANIZATIONS
}
