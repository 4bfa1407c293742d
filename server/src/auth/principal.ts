import type { Scope as DataScope } from '../db/scope.ts'
import { DomainError } from '../lib/errors.ts'
import type { ApiKeyId, CustomerTokenId, OrganizationId, SessionId, UserId } from '../lib/ids.ts'

export const SCOPES = ['read', 'write', 'admin'] as const
export type Scope = (typeof SCOPES)[number]

export type Role = 'owner' | 'admin' | 'member'

/** What a role may do in its organization. */
export const SCOPES_OF_ROLE: Readonly<Record<Role, readonly Scope[]>> = {
  owner: SCOPES,
  admin: SCOPES,
  member: ['read', 'write'],
}

export type Membership = { readonly organizationId: OrganizationId; readonly role: Role }

/** Who sees every organization. */
export type Operator = {
  readonly kind: 'operator'
  /** `bootstrap` for the operator key, the user's id for a person. */
  readonly name: string
  /** The organization that the request names for the routes that need one. */
  readonly actingIn?: OrganizationId
}

/** Who acts in one organization, with the scopes that it has there. */
export type Tenant = { readonly organizationId: OrganizationId; readonly scopes: readonly Scope[] } & (
  | { readonly kind: 'api_key'; readonly keyId: ApiKeyId }
  | {
      readonly kind: 'user'
      readonly userId: UserId
      readonly sessionId: SessionId
      /** All of them; `organizationId` is the one in which this request acts. */
      readonly memberships: readonly Membership[]
      /** Set by `requireScope`: what another of the user's organizations, named in the body, is measured by. */
      readonly demanded?: Scope
    }
  /** A person whom a host application vouches for. */
  | { readonly kind: 'host_token'; readonly subject: string }
  /** A customer's browser on an embedded billing page. */
  | { readonly kind: 'customer_token'; readonly tokenId: CustomerTokenId }
)

/** Who is calling. */
export type Principal = Operator | Tenant

/** How an audit row names the caller. */
export function actorOf(principal: Principal): string {
  switch (principal.kind) {
    case 'operator':
      return `operator:${principal.name}`
    case 'api_key':
      return `api_key:${principal.keyId}`
    case 'user':
      return `user:${principal.userId}`
    case 'host_token':
      return `host_user:${principal.subject}`
    case 'customer_token':
      return `customer_token:${principal.tokenId}`
  }
}

/** Whose rows a caller's request sees: an operator's everybody's, a tenant's its own, a user's those of all memberships. */
export function dataScopeOf(principal: Principal | null): DataScope {
  if (principal === null) return { kind: 'nobody' }
  if (principal.kind === 'operator') return { kind: 'system' }
  const others = principal.kind === 'user' ? principal.memberships.map(({ organizationId }) => organizationId) : []
  return { kind: 'organizations', organizationIds: [...new Set([principal.organizationId, ...others])] }
}

/** Says whether nobody said who they are, or who they said they are cannot be true: the one who calls has to mend different things. */
export function nobody(headers: { get(name: string): string | null }): DomainError {
  if (headers.get('authorization') !== null || headers.get('x-api-key') !== null) {
    return new DomainError('unauthenticated', 'This key or token opens nothing: it is wrong, revoked or expired.')
  }
  return new DomainError('unauthenticated', 'Sign in, or send an API key as Authorization: Bearer <key> or X-API-Key.')
}

/** @throws DomainError `unauthenticated` when nobody is calling */
export function requireCaller(principal: Principal | null): Principal {
  if (principal !== null) return principal
  throw nobody({ get: () => null })
}

/** @throws DomainError `unauthenticated`, or `forbidden` when the caller lacks the scope; `admin` includes `write` and `read`, `write` does not include `read` */
export function requireScope(principal: Principal | null, scope: Scope): Principal {
  const caller = requireCaller(principal)
  if (caller.kind === 'operator') return caller
  if (!includesScope(caller.scopes, scope)) throw lacking(scope)
  return caller.kind === 'user' ? { ...caller, demanded: scope } : caller
}

function includesScope(scopes: readonly Scope[], scope: Scope): boolean {
  return scopes.includes(scope) || scopes.includes('admin')
}

function lacking(scope: Scope): DomainError {
  return new DomainError('forbidden', `This needs the scope "${scope}".`, { required_scope: scope })
}

/** @throws DomainError `unauthenticated`, or `forbidden` for anyone but an operator */
export function requireOperator(principal: Principal | null): Operator {
  const caller = requireScope(principal, 'read')
  if (caller.kind !== 'operator') throw new DomainError('forbidden', 'Only an operator may do this.')
  return caller
}

/**
 * The organization that a call acts on: the caller's own, another one of which the user is a member, or the one that an
 * operator names.
 * @throws DomainError `not_found` when another organization is named, `forbidden` when the user's role there does not
 * suffice, `invalid_request` when an operator names none
 */
export function organizationFor(principal: Principal, named: string | undefined): OrganizationId {
  if (principal.kind === 'operator') {
    const organizationId = named ?? principal.actingIn
    if (organizationId !== undefined) return organizationId as OrganizationId
    throw new DomainError('invalid_request', 'An operator names the organization: organization_id is missing.', {
      field: 'organization_id',
    })
  }
  if (named === undefined || named === principal.organizationId) return principal.organizationId
  const membership =
    principal.kind === 'user' ? principal.memberships.find(({ organizationId }) => organizationId === named) : undefined
  if (principal.kind !== 'user' || membership === undefined) throw new DomainError('not_found', 'There is no such organization.')
  // Scopes were asked for in the organization of the request; here it turns out to be another one.
  const scope = principal.demanded ?? 'admin'
  if (!includesScope(SCOPES_OF_ROLE[membership.role], scope)) throw lacking(scope)
  return membership.organizationId
}

/**
 * Whose objects a call is about: as `organizationFor`, but an operator who names none means those of every organization.
 * @returns null for every organization
 * @throws DomainError `not_found`, `forbidden`
 */
export function organizationOrAll(principal: Principal, named: string | undefined): OrganizationId | null {
  const all = principal.kind === 'operator' && named === undefined && principal.actingIn === undefined
  return all ? null : organizationFor(principal, named)
}
