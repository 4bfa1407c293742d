import { organizationFor, requireScope, type Principal } from '../auth/principal.ts'
import { ALL_ORGANIZATIONS } from '../events/types.ts'

/**
 * Whose endpoints a call is about: an admin's organization's; an operator's is the one that is named, or else the operators' own.
 * @throws DomainError `unauthenticated`, `forbidden`, `not_found`
 */
export function ownerOf(caller: Principal | null, named: string | undefined): string {
  const principal = requireScope(caller, 'admin')
  const everybody = principal.kind === 'operator' && named === undefined && principal.actingIn === undefined
  return everybody ? ALL_ORGANIZATIONS : organizationFor(principal, named)
}
