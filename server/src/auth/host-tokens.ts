import { createRemoteJWKSet, jwtVerify, type JWTPayload } from 'jose'
import type { Clock } from '../lib/clock.ts'
import type { OrganizationId } from '../lib/ids.ts'
import { type Principal, SCOPES } from './principal.ts'

/** Whose tokens are accepted beside our own: those of a host application that signs its users in itself. */
export type HostTokenOptions = {
  /** Where its public keys are, e.g. `https://app.example.com/.well-known/jwks.json`. */
  readonly jwksUrl: string
  readonly issuer: string
  readonly audience: string
  /** The claim that names the organization. */
  readonly organizationClaim: string
  /** The claim with the scopes, as a list or separated by spaces; without one of ours in it a token may read. */
  readonly scopeClaim: string
}

/** Signatures by a key pair only: with a shared secret, whoever checks a token could also make one. */
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519']
/** Clocks of two machines differ. */
const TOLERANCE_SECONDS = 5

export type HostTokenVerifier = (token: string) => Promise<Principal | null>

/** Who a host's token stands for; null for one that is wrong, expired, not yet valid, or for somebody else. */
export function createHostTokenVerifier(options: HostTokenOptions, clock: Clock): HostTokenVerifier {
  const keys = createRemoteJWKSet(new URL(options.jwksUrl), { timeoutDuration: 3_000 })
  return async (token) => {
    try {
      const { payload } = await jwtVerify(token, keys, {
        issuer: options.issuer,
        audience: options.audience,
        algorithms: ALGORITHMS,
        currentDate: clock.now(),
        clockTolerance: TOLERANCE_SECONDS,
        requiredClaims: ['exp', 'sub', options.organizationClaim],
      })
      return principalOf(payload, options)
    } catch {
      return null
    }
  }
}

function principalOf(payload: JWTPayload, { organizationClaim, scopeClaim }: HostTokenOptions): Principal | null {
  const organizationId = payload[organizationClaim]
  const { sub } = payload
  if (typeof organizationId !== 'string' || organizationId === '' || sub === undefined) return null
  const given = payload[scopeClaim]
  const names: readonly unknown[] = typeof given === 'string' ? given.split(' ') : Array.isArray(given) ? given : []
  const scopes = SCOPES.filter((scope) => names.includes(scope))
  return {
    kind: 'host_token',
    subject: sub,
    organizationId: organizationId as OrganizationId,
    scopes: scopes.length === 0 ? ['read'] : scopes,
  }
}
