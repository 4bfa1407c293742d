import { TollgateError, TollgateUnreachableError } from '../src/errors.ts'
import type { BatchItem, BatchResult, UsageAnswer, UsageClient, UsageInput } from '../src/usage.ts'

const answer = (allowed: boolean): UsageAnswer => ({
  allowed,
  balance: null,
  credits_used: 1,
  total_credits_used: 1,
  quota_remaining: 0,
  quota_exceeded: !allowed,
})

/** How the line to the server is: up, cut before or after a request arrives or when half of a batch is carried out, or answered by a status. */
export type Line = 'up' | 'cut before' | 'cut in the middle' | 'cut after' | { readonly status: number }

const problem = (status: number, code: string, field?: string) => new TollgateError(status, { title: code, code, status, field })

/** A server with a quota, which knows keys, and whose line can be cut before or after a request arrives. */
export function createPeer(quota: number) {
  const counted = new Map<string, UsageInput>()
  const first = new Map<string, { readonly verb: string; readonly input: UsageInput; readonly answer: UsageAnswer }>()
  const takenBack = new Set<string>()
  let line: Line = 'up'
  async function over<Answer>(carryOut: () => Answer): Promise<Answer> {
    if (line === 'cut before') throw new TollgateUnreachableError('no answer')
    if (typeof line === 'object') throw problem(line.status, 'refused')
    const answered = carryOut()
    if (line === 'cut after') throw new TollgateUnreachableError('no answer')
    return answered
  }
  function decide(input: UsageInput, verb: BatchItem['verb']): UsageAnswer {
    if (verb === 'check') return answer(counted.size < quota)
    if (input.meter === 'unknown') throw problem(422, 'unknown_meter')
    if (input.meter === 'poison') throw problem(500, 'internal_error')
    // A key belongs to one organization, and has at most 255 characters.
    if (input.idempotencyKey!.length > 255) throw problem(422, 'invalid_request')
    const key = `${input.organizationId ?? ''} ${input.idempotencyKey!}`
    const known = first.get(key)
    const isAskedAfter = known?.verb === 'track' && verb === 'consume'
    if (known !== undefined && known.verb !== verb && !isAskedAfter) throw problem(409, 'idempotency_conflict', 'verb')
    if (known !== undefined && known.input.occurredAt !== input.occurredAt && !(isAskedAfter && input.occurredAt === undefined)) {
      throw problem(409, 'idempotency_conflict', 'occurred_at')
    }
    const decided = known?.answer ?? answer(verb === 'track' || counted.size < quota)
    if (known === undefined) first.set(key, { verb, input, answer: decided })
    if (known === undefined && decided.allowed) counted.set(key, input)
    if (verb === 'consume' && takenBack.has(key)) return { ...answer(false), code: 'taken_back', credits_used: 0 }
    return decided
  }
  /** What changes a use or a hold that is known: carried out once, by its name. */
  const done = new Set<string>()
  const change = (name: string, carryOut: () => void): Promise<UsageAnswer> =>
    over(() => {
      if (!done.has(name)) carryOut()
      done.add(name)
      return answer(true)
    })
  const call = (input: UsageInput, verb: BatchItem['verb']) => over(() => decide(input, verb))
  function resultOf({ verb, ...input }: BatchItem): BatchResult {
    try {
      return decide(input, verb)
    } catch (error) {
      return { allowed: false, error: (error as TollgateError).problem }
    }
  }
  const refuse = () => Promise.reject(new Error('not part of this peer'))
  const client: UsageClient = {
    check: (input) => call(input, 'check'),
    consume: (input) => call(input, 'consume'),
    track: (input) => call(input, 'track'),
    async reserve(input) {
      if (line !== 'up') return call(input, 'consume')
      return { ...answer(true), reservation_id: `r-${input.idempotencyKey}` }
    },
    settle: (id, { quantity } = {}) =>
      change(`settle ${id}`, () => void counted.set(id, { meter: 'held', ...(quantity === undefined ? {} : { quantity }) })),
    release: (id) => change(`release ${id}`, () => undefined),
    correct: ({ corrects, organizationId = '', idempotencyKey }) =>
      change(`correct ${idempotencyKey}`, () => {
        if (!counted.delete(`${organizationId} ${corrects}`)) throw problem(404, 'not_found')
        takenBack.add(`${organizationId} ${corrects}`)
      }),
    batch: (items) =>
      over(() => {
        const half = items.slice(0, items.length / 2)
        const results = (line === 'cut in the middle' ? half : items).map(resultOf)
        if (line === 'cut in the middle') throw new TollgateUnreachableError('no answer')
        return results
      }),
    balances: refuse,
    usage: refuse,
    gate: refuse,
    entitlement: refuse,
    entitlements: refuse,
  }
  return { client, counted, setLine: (next: Line) => void (line = next) }
}
