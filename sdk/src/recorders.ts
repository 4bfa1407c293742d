import type { QuantityInput, UsageAnswer, UsageClient } from './usage.ts'

/** What a check says: whether the use would be allowed, and why not. */
export type CheckResult = { readonly allowed: boolean; readonly reason: string | null }

export type Recorder = {
  /** Records a use that has happened. `metadata` becomes properties of the event. */
  record(
    user: string,
    quantity: QuantityInput,
    metadata?: Readonly<Record<string, string | number | boolean>>,
  ): Promise<UsageAnswer>
  /** Asks whether a use would be allowed; writes nothing. */
  check(user: string, requested: QuantityInput): Promise<CheckResult>
}

/**
 * CB-2: the record and check functions of a host that meters tokens, API calls and scraping tasks.
 * @param client an operator's client, since each call names its own user
 */
export function createRecorders(client: UsageClient): {
  readonly tokens: Recorder
  readonly apiCalls: Recorder
  readonly scrapingTasks: Recorder
} {
  return {
    tokens: recorderOf(client, 'tokens'),
    apiCalls: recorderOf(client, 'api_calls'),
    scrapingTasks: recorderOf(client, 'scraping_tasks'),
  }
}

function recorderOf(client: UsageClient, meter: string): Recorder {
  return {
    record: (organizationId, quantity, metadata) =>
      client.track({ organizationId, meter, quantity, ...(metadata ? { properties: metadata } : {}) }),
    async check(organizationId, requested) {
      const { allowed, reason } = await client.check({ organizationId, meter, quantity: requested })
      return { allowed, reason: reason ?? null }
    },
  }
}
