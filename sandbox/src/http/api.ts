import { setTimeout as delay } from 'node:timers/promises'
import type { RequestLog } from '../control/request-log.ts'
import { realTimeMs } from '../engine/clock.ts'
import type { Ctx, Origin } from '../engine/context.ts'
import type { Engine } from '../engine/engine.ts'
import { notSupported, StripeError } from '../engine/errors.ts'
import type { Module, Operation } from '../engine/module.ts'
import { parseParams, type RawParams } from '../engine/params.ts'
import type { OperationSpec } from '../engine/spec.ts'
import type { Chaos } from '../events/chaos.ts'
import { authenticate, authenticateSession, keyOf, secretKeyRequired } from './auth.ts'
import { decodeForm } from './form.ts'
import { keyedRequest, keyInUse, storeAnswer, storedAnswer, type KeyedRequest } from './idempotency.ts'
import type { RateLimiter } from './rate-limit.ts'
import { Router } from './router.ts'

/** A request to the Stripe API, read completely. */
export interface ApiRequest {
  readonly method: string
  readonly pathname: string
  readonly search: string
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: string
}

/** What is sent back; `cut` closes the connection instead of answering. */
export interface ApiResponse {
  readonly status: number
  readonly headers: Record<string, string>
  readonly body: string
  readonly cut: boolean
}

export interface ApiOptions {
  readonly chaos: Chaos
  readonly limiter: RateLimiter
  readonly log: RequestLog
  /** Keys to accept; null accepts any test key. */
  readonly apiKeys: readonly string[] | null
}

interface Endpoint {
  readonly spec: OperationSpec
  readonly operation: Operation | null
}

interface Call {
  readonly endpoint: Endpoint
  readonly params: Record<string, unknown>
  readonly path: Record<string, string>
  readonly requestId: string
  readonly keyed: KeyedRequest | null
}

/** Answers API requests: authentication, routing, parameters, idempotency, and the operation as one transaction. */
export class Api {
  private readonly router = new Router<Endpoint>()
  private readonly inProgress = new Set<string>()
  private readonly engine: Engine
  private readonly chaos: Chaos
  private readonly limiter: RateLimiter
  private readonly log: RequestLog
  private readonly apiKeys: readonly string[] | null

  constructor(engine: Engine, modules: readonly Module[], options: ApiOptions) {
    this.engine = engine
    this.chaos = options.chaos
    this.limiter = options.limiter
    this.log = options.log
    this.apiKeys = options.apiKeys
    const operations = operationsOf(modules)
    for (const spec of engine.spec.operations.values()) {
      this.router.add(spec.key, { spec, operation: operations.get(spec.key) ?? null })
    }
  }

  /** Answers a request; never throws. */
  async answer(request: ApiRequest): Promise<ApiResponse> {
    const requestId = this.engine.newId('req', 14)
    const response = await this.respond(request, requestId)
    this.log.add({
      id: requestId,
      method: request.method,
      path: request.pathname,
      status: response.status,
      atMs: realTimeMs(),
      idempotencyKey: header(request, 'idempotency-key') ?? null,
      error: response.status < 400 ? null : response.body,
    })
    return response
  }

  private async respond(request: ApiRequest, requestId: string): Promise<ApiResponse> {
    const headers = this.headersFor(request, requestId)
    try {
      return await this.handle(request, requestId, headers)
    } catch (error) {
      const { status, body } = this.errorAnswer(error, requestId)
      return { status, headers: { ...headers, ...extraHeaders(error) }, body, cut: false }
    }
  }

  private async handle(request: ApiRequest, requestId: string, headers: Record<string, string>): Promise<ApiResponse> {
    const match = this.router.find(request.method, request.pathname)
    this.checkKey(request, match?.value.operation ?? null)
    if (match === null) throw unknownUrl(request)
    const { value: endpoint, path } = match
    this.limiter.admit(endpoint.spec.key, realTimeMs())
    const raw = rawParams(request)
    const keyed = keyedOf(request, raw)
    const trouble = this.chaos.forRequest(endpoint.spec.key)
    if (keyed !== null && this.inProgress.has(keyed.key)) throw keyInUse(keyed.key)
    if (keyed !== null) this.inProgress.add(keyed.key)
    try {
      if (trouble.latencyMs > 0) await delay(trouble.latencyMs)
      if (trouble.refuse !== null) throw trouble.refuse
      const answer = this.execute(endpoint, path, raw, keyed, requestId, request)
      return { ...answer, headers: { ...headers, ...answer.headers }, cut: trouble.loseResponse }
    } finally {
      if (keyed !== null) this.inProgress.delete(keyed.key)
    }
  }

  private checkKey(request: ApiRequest, operation: Operation | null): void {
    const key = keyOf(header(request, 'authorization'))
    if (operation?.sessionOnly === true) {
      authenticateSession(key, this.engine.read())
      return
    }
    const kind = authenticate(key, this.apiKeys)
    if (kind === 'publishable' && operation?.publishable !== true) throw secretKeyRequired()
  }

  private execute(
    endpoint: Endpoint,
    path: Record<string, string>,
    raw: RawParams,
    keyed: KeyedRequest | null,
    requestId: string,
    request: ApiRequest,
  ): { status: number; headers: Record<string, string>; body: string } {
    this.engine.timeline.catchUp()
    const replay = keyed === null ? null : storedAnswer(this.engine.read(), keyed)
    if (replay !== null) {
      const headers = { 'idempotent-replayed': 'true', 'original-request': replay.requestId }
      return { status: replay.status, headers, body: replay.body }
    }
    const params = parseParams(endpoint.spec.params, raw, isJson(request) ? 'json' : 'form')
    checkTaken(endpoint, params)
    const call = { endpoint, params, path, requestId, keyed }
    try {
      return { status: 200, headers: {}, body: this.runOperation(call) }
    } catch (error) {
      return this.failed(error, call)
    }
  }

  /** The operation and the record of its answer are one transaction. */
  private runOperation(call: Call): string {
    const { endpoint, params, path, requestId, keyed } = call
    const origin: Origin = { request: { id: requestId, idempotencyKey: keyed?.key ?? null }, task: null }
    return this.engine.transact(origin, (ctx) => {
      try {
        const result = endpoint.operation?.run(ctx, params, path) ?? {}
        const expand = (params['expand'] as string[] | undefined) ?? []
        const body = JSON.stringify(this.engine.renderer.answer(result, expand, endpoint.spec.response, ctx))
        if (keyed !== null) storeAnswer(ctx, keyed, { status: 200, body, requestId })
        return body
      } catch (error) {
        if (keyed !== null && error instanceof StripeError && error.keepsEffects) this.keepError(ctx, keyed, error, requestId)
        throw error
      }
    })
  }

  private failed(error: unknown, call: Call): { status: number; headers: Record<string, string>; body: string } {
    const answer = this.errorAnswer(error, call.requestId)
    const isStored = error instanceof StripeError && (error.keepsEffects || error.beforeExecution)
    if (call.keyed !== null && !isStored) {
      const { keyed, requestId } = call
      this.engine.transact({ request: null, task: null }, (ctx) => {
        storeAnswer(ctx, keyed, { ...answer, requestId })
      })
    }
    return { ...answer, headers: extraHeaders(error) }
  }

  private keepError(ctx: Ctx, keyed: KeyedRequest, error: StripeError, requestId: string): void {
    storeAnswer(ctx, keyed, { ...this.errorAnswer(error, requestId), requestId })
  }

  private errorAnswer(error: unknown, requestId: string): { status: number; body: string } {
    const url = `${this.engine.baseUrl}/_sandbox/requests/${requestId}`
    if (error instanceof StripeError) {
      return { status: error.status, body: JSON.stringify({ error: { ...error.body, request_log_url: url } }) }
    }
    this.engine.report(error)
    const message = `The sandbox failed: ${error instanceof Error ? error.message : String(error)}`
    return { status: 500, body: JSON.stringify({ error: { type: 'api_error', message, request_log_url: url } }) }
  }

  private headersFor(request: ApiRequest, requestId: string): Record<string, string> {
    const key = header(request, 'idempotency-key')
    return {
      'content-type': 'application/json',
      'request-id': requestId,
      'stripe-version': header(request, 'stripe-version') ?? this.engine.spec.version,
      ...(key === undefined ? {} : { 'idempotency-key': key }),
    }
  }
}

/** All operations of the modules by key; two declarations of one operation are a mistake. */
export function operationsOf(modules: readonly Module[]): Map<string, Operation> {
  const operations = new Map<string, Operation>()
  for (const operation of modules.flatMap((module) => module.operations ?? [])) {
    if (operations.has(operation.on)) throw new Error(`The operation '${operation.on}' is declared twice.`)
    operations.set(operation.on, operation)
  }
  return operations
}

/** Parameters that every operation understands. */
const ALWAYS_TAKEN = new Set(['expand', 'limit', 'starting_after', 'ending_before'])

function checkTaken(endpoint: Endpoint, params: Record<string, unknown>): void {
  const { operation, spec } = endpoint
  if (operation === null) throw notSupported(`The operation ${spec.key} (${spec.operationId})`)
  for (const name of Object.keys(params)) {
    if (!ALWAYS_TAKEN.has(name) && !operation.takes.includes(name)) {
      throw notSupported(`The parameter '${name}' of ${spec.key}`, name)
    }
  }
  for (const path of operation.refuses) {
    if (holds(params, path.split('.'))) throw notSupported(`The parameter '${path}' of ${spec.key}`, path)
  }
}

function holds(value: unknown, path: string[]): boolean {
  if (Array.isArray(value)) return value.some((member) => holds(member, path))
  const [name, ...rest] = path
  if (name === undefined) return true
  if (typeof value !== 'object' || value === null || !(name in value)) return false
  return holds((value as Record<string, unknown>)[name], rest)
}

function isJson(request: ApiRequest): boolean {
  return request.pathname.startsWith('/v2/') && request.method === 'POST'
}

function rawParams(request: ApiRequest): RawParams {
  const query = decodeForm(request.search)
  if (request.body === '') return query
  if (!isJson(request)) return { ...query, ...decodeForm(request.body) }
  try {
    return { ...query, ...(JSON.parse(request.body) as RawParams) }
  } catch {
    throw new StripeError(
      400,
      { type: 'invalid_request_error', message: 'The body is not valid JSON.' },
      { beforeExecution: true },
    )
  }
}

function keyedOf(request: ApiRequest, raw: RawParams): KeyedRequest | null {
  const key = header(request, 'idempotency-key')
  const applies = request.method === 'POST' || (request.method === 'DELETE' && request.pathname.startsWith('/v2/'))
  if (key === undefined || key === '' || !applies) return null
  return keyedRequest(key, `${request.method} ${request.pathname}`, raw)
}

function header(request: ApiRequest, name: string): string | undefined {
  const value = request.headers[name]
  return Array.isArray(value) ? value[0] : value
}

function extraHeaders(error: unknown): Record<string, string> {
  return error instanceof StripeError ? error.headers : {}
}

function unknownUrl(request: ApiRequest): StripeError {
  return new StripeError(
    404,
    {
      type: 'invalid_request_error',
      message: `Unrecognized request URL (${request.method}: ${request.pathname}). Please see https://stripe.com/docs or we can help at https://support.stripe.com/.`,
    },
    { beforeExecution: true },
  )
}
