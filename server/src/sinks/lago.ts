import type { ForwardedUse, Rejection, Sink } from './sink.ts'

export type LagoOptions = { readonly url: string; readonly apiKey: string }

/** Lago takes a hundred events at once, all or none. */
const MOST_EVENTS = 100
/** What Lago says of a transaction id that it has. */
const KNOWN = 'value_already_exist'

/**
 * Forwards to Lago: the organization is the subscription's external id, the meter the metric's code, the event's id the
 * transaction id, by which Lago counts it once. A batch that it refuses names what is wrong with which event: those that it has
 * already are done, those that it will never take are put aside, and the rest is sent again.
 * Source: https://docs.getlago.com/api-reference/events/batch
 */
export function createLagoSink({ url, apiKey }: LagoOptions): Sink {
  const address = `${url.replace(/\/+$/, '')}/api/v1/events/batch`
  const headers = { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' }
  return {
    name: 'lago',
    batchSize: MOST_EVENTS,
    async deliver(batch, signal) {
      const rejections: Rejection[] = []
      for (let rest = batch; rest.length > 0;) {
        const body = JSON.stringify({ events: rest.map(lagoEvent) })
        const response = await fetch(address, { method: 'POST', headers, body, signal })
        if (response.ok) {
          await response.body?.cancel()
          return rejections
        }
        if (response.status !== 422) {
          await response.body?.cancel()
          throw new Error(`Lago answered ${response.status}.`)
        }
        const faults = readFaults(await response.text(), rest.length)
        if (faults.size === 0) throw new Error('Lago refused a batch and did not say why.')
        for (const [index, reason] of faults) if (reason !== KNOWN) rejections.push({ id: rest[index]!.id, reason })
        rest = rest.filter((_, index) => !faults.has(index))
      }
      return rejections
    },
  }
}

function lagoEvent(use: ForwardedUse) {
  return {
    transaction_id: use.id,
    external_subscription_id: use.organizationId,
    code: use.meter,
    timestamp: use.occurredAt.getTime() / 1_000,
    properties: { ...use.properties, quantity: use.quantity },
  }
}

/** What is wrong, by the event's place in the batch. */
function readFaults(text: string, length: number): ReadonlyMap<number, string> {
  const faults = new Map<number, string>()
  const details = parse(text)
  for (const [place, fields] of Object.entries(details)) {
    const index = Number(place)
    if (!Number.isInteger(index) || index < 0 || index >= length) continue
    const isKnown = JSON.stringify(fields).includes(KNOWN)
    faults.set(index, isKnown ? KNOWN : JSON.stringify(fields).slice(0, 200))
  }
  return faults
}

function parse(text: string): Readonly<Record<string, unknown>> {
  try {
    const body: unknown = JSON.parse(text)
    const details = body !== null && typeof body === 'object' && 'error_details' in body ? body.error_details : null
    return details !== null && typeof details === 'object' ? (details as Record<string, unknown>) : {}
  } catch {
    return {}
  }
}
