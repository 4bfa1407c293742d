import { refusalOf, UNAUTHENTICATED, type CallRefusal } from './metered-call.ts'
import { UPGRADE_URL } from './quota.ts'
import type { GateInput, UsageClient } from './usage.ts'

/** What to answer instead of running the handler, with its headers. */
export type GateRefusal = CallRefusal & { readonly headers: Readonly<Record<string, string>> }

/**
 * Asks whether a call may run that only trial and subscription permit (MR-13); null when it may. Refused, it answers 402 with
 * `{detail}`; without a client, 401; what Tollgate itself refused, or that it is away, is passed on.
 */
export function checkStanding(client: Pick<UsageClient, 'gate'> | null, input: GateInput): Promise<GateRefusal | null> {
  return refusalBy(client, async (asked) => {
    const { allowed, detail } = await asked.gate(input)
    return allowed ? null : { status: 402, body: { detail }, headers: {} }
  })
}

/**
 * Asks whether a call may run that needs a feature of the catalog; null when it may. Refused, it answers 403 with `{error, message, feature, upgrade_url}`;
 * without a client, 401; what Tollgate itself refused, or that it is away, is passed on.
 */
export function checkFeature(client: Pick<UsageClient, 'entitlement'> | null, feature: string): Promise<GateRefusal | null> {
  return refusalBy(client, async (asked) => {
    const { allowed, code, reason } = await asked.entitlement(feature)
    const body = { error: code, message: reason, feature, upgrade_url: UPGRADE_URL }
    return allowed ? null : { status: 403, body, headers: {} }
  })
}

async function refusalBy<Client>(
  client: Client | null,
  ask: (client: Client) => Promise<GateRefusal | null>,
): Promise<GateRefusal | null> {
  if (client === null) return { status: 401, body: UNAUTHENTICATED, headers: {} }
  try {
    return await ask(client)
  } catch (error) {
    const passedOn = refusalOf(error)
    if (passedOn === null) throw error
    return { ...passedOn.refusal, headers: passedOn.headers }
  }
}
