import type { MutationResult } from './mutations.ts'

type WireResult = {
  readonly id: string
  readonly status?: string | null
  readonly url?: string | null
  readonly client_secret?: string | null
}

/** What is kept of the answer to a change. */
export function result(wire: WireResult): MutationResult {
  return { id: wire.id, status: wire.status ?? null, url: wire.url ?? null, clientSecret: wire.client_secret ?? null }
}
