import { refusalOf, UNAUTHENTICATED, type CallRefusal } from './metered-call.ts'
import type { GateInput, UsageClient } from './usage.ts'

/** What to answer instead of running the handler, with its headers. */
export type GateRefusal = CallRefusal & { readonly headers: Readonly<Record<string, string>> }

/**
 * Asks whether a call may run that only trial and subscription permit (MR-13); null when it may. Refused, it answers 402 with
 * `{detail}`; without a client, 401; what Tollgate itself refused, or that it is away, is passed on.
 */
export async function checkStanding(client: Pick<UsageClient, 'gate'> | null, input: GateInput): Promise<GateRefusal | null> {
  if (client === null) return { status: 401, body: UNAUTHENTICATED, headers: {} }
  try {
    const { allowed, detail } = await client.gate(input)
    return allowed ? null : { status: 402, body: { detail }, headers: {} }
  } catch (error) {
    const passedOn = refusalOf(error)
    if (passedOn === null) throw error
    return { ...passedOn.refusal, headers: passedOn.headers }
  }
}
