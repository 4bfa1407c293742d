import { createHash } from 'node:crypto'
import type { Ctx } from '../engine/context.ts'
import { StripeError } from '../engine/errors.ts'
import { timeRule, type TimeRule } from '../engine/module.ts'
import type { Stored } from '../model/stored.ts'

const MAX_KEY_LENGTH = 255
/** How long an answer is kept, in seconds of the sandbox's clock. */
const KEPT_SECONDS = 86_400

/** A request under an idempotency key. */
export interface KeyedRequest {
  readonly key: string
  /** `POST /v1/customers/cus_1` */
  readonly endpoint: string
  readonly digest: string
}

/** Checks the key's length and condenses what the request asks for. */
export function keyedRequest(key: string, endpoint: string, params: unknown): KeyedRequest {
  if (key.length > MAX_KEY_LENGTH) {
    throw new StripeError(
      400,
      { type: 'idempotency_error', message: `Keys for idempotent requests must be at most ${MAX_KEY_LENGTH} characters long.` },
      { beforeExecution: true },
    )
  }
  return { key, endpoint, digest: createHash('sha256').update(canonical(params)).digest('base64') }
}

/** The stored answer to a repeat; throws when the key was used for another request. */
export function storedAnswer(ctx: Ctx, request: KeyedRequest): Stored<'_idempotent_answer'> | null {
  const stored = ctx.get('_idempotent_answer', request.key)
  if (stored === undefined) return null
  if (stored.endpoint !== request.endpoint) {
    throw conflict(
      400,
      `Keys for idempotent requests can only be used for the same endpoint they were first used for ('${pathOf(stored.endpoint)}' vs '${pathOf(request.endpoint)}'). ` +
        `Try using a key other than '${request.key}' if you meant to execute a different request.`,
    )
  }
  if (stored.digest !== request.digest) {
    throw conflict(
      400,
      `Keys for idempotent requests can only be used with the same parameters they were first used with. ` +
        `Try using a key other than '${request.key}' if you meant to execute a different request.`,
    )
  }
  return stored
}

/** Keeps an answer, in the transaction that had the effect. */
export function storeAnswer(ctx: Ctx, request: KeyedRequest, answer: { status: number; body: string; requestId: string }): void {
  ctx.store.put('_idempotent_answer', {
    id: request.key,
    endpoint: request.endpoint,
    digest: request.digest,
    created: ctx.now(),
    ...answer,
  })
}

/** 409: another request with this key is being worked on. */
export function keyInUse(key: string): StripeError {
  return new StripeError(
    409,
    {
      type: 'idempotency_error',
      code: 'idempotency_key_in_use',
      message: `There is currently another in-progress request using this idempotent key (that probably means you submitted twice, and the other request is still going through): ${key}. Please try again later.`,
    },
    { beforeExecution: true },
  )
}

/** Forgets answers after a day. */
export const forgetAnswers: TimeRule = timeRule({
  name: 'idempotency: forget the answer',
  object: '_idempotent_answer',
  due: (answer) => answer.created + KEPT_SECONDS,
  run: (answer, ctx) => ctx.delete('_idempotent_answer', answer.id),
})

function conflict(status: number, message: string): StripeError {
  return new StripeError(status, { type: 'idempotency_error', message }, { beforeExecution: true })
}

function pathOf(endpoint: string): string {
  return endpoint.slice(endpoint.indexOf(' ') + 1)
}

/** JSON with sorted keys: the order of parameters does not matter. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null'
  const members = Object.entries(value).sort(([left], [right]) => (left < right ? -1 : 1))
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonical(member)}`).join(',')}}`
}
