import { DomainError } from '../lib/errors.ts'
import type { ApiKeyId, OrganizationId } from '../lib/ids.ts'

export type Scope = 'read' | 'write' | 'admin'

/** Who is calling: an operator, who sees every organization, or a key of one organization. */
export type Principal =
  | { readonly kind: 'operator'; readonly name: string }
  | {
      readonly kind: 'api_key'
      readonly keyId: ApiKeyId
      readonly organizationId: OrganizationId
      readonly scopes: readonly Scope[]
    }

/** How an audit row names the caller. */
export function actorOf(principal: Principal): string {
  return principal.kind === 'operator' ? `operator:${principal.name}` : `api_key:${principal.keyId}`
}

/** @throws DomainError `unauthenticated` when nobody is calling */
export function requireCaller(principal: Principal | null): Principal {
  if (principal !== null) return principal
  throw new DomainError('unauthenticated', 'An API key is needed: send it as Authorization: Bearer <key> or X-API-Key.')
}

/** @throws DomainError `unauthenticated`, or `forbidden` when the key lacks the scope; `admin` includes `write` and `read`, `write` does not include `read` */
export function requireScope(principal: Principal | null, scope: Scope): Principal {
  const caller = requireCaller(principal)
  if (caller.kind === 'operator' || caller.scopes.includes(scope) || caller.scopes.includes('admin')) return caller
  throw new DomainError('forbidden', `This needs the scope "${scope}".`, { required_scope: scope })
}

/** @throws DomainError `unauthenticated`, or `forbidden` for anyone but an operator */
export function requireOperator(principal: Principal | null): Principal {
  const caller = requireScope(principal, 'read')
  if (caller.kind !== 'operator') throw new DomainError('forbidden', 'Only an operator may do this.')
  return caller
}

/**
 * The organization that a call acts on: a key's own, or the one that an operator names.
 * @throws DomainError `not_found` when a key names another organization, `invalid_request` when an operator names none
 */
export function organizationFor(principal: Principal, named: string | undefined): OrganizationId {
  if (principal.kind === 'operator') {
    if (named === undefined)
      throw new DomainError('invalid_request', 'An operator names the organization: organization_id is missing.', {
        field: 'organization_id',
      })
    return named as OrganizationId
  }
  if (named !== undefined && named !== principal.organizationId)
    throw new DomainError('not_found', 'There is no such organization.')
  return principal.organizationId
}
