/** The body of a Stripe error, as the API answers it under `error`. */
export interface ErrorBody {
  type: 'api_error' | 'card_error' | 'idempotency_error' | 'invalid_request_error'
  code?: string
  message: string
  param?: string
  decline_code?: string
  doc_url?: string
  [field: string]: unknown
}

/** Codes that Stripe documents with a page; others carry no `doc_url`. */
const DOC_URL = 'https://stripe.com/docs/error-codes/'

/**
 * An error that the caller receives as Stripe words it. Thrown inside an operation it undoes every write of the operation,
 * unless `keepsEffects` is set: a declined card answers 402 and still leaves the failed charge behind.
 */
export class StripeError extends Error {
  readonly status: number
  readonly body: ErrorBody
  readonly keepsEffects: boolean
  /** True for errors found before the operation began; these are never stored under an idempotency key. */
  readonly beforeExecution: boolean

  /** Response headers that go with the error. */
  readonly headers: Record<string, string>

  constructor(
    status: number,
    body: ErrorBody,
    options: { keepsEffects?: boolean; beforeExecution?: boolean; headers?: Record<string, string> } = {},
  ) {
    super(body.message)
    this.name = 'StripeError'
    this.status = status
    this.body = body.code === undefined ? body : { ...body, doc_url: body.doc_url ?? DOC_URL + body.code.replaceAll('_', '-') }
    this.keepsEffects = options.keepsEffects ?? false
    this.beforeExecution = options.beforeExecution ?? false
    this.headers = options.headers ?? {}
  }
}

/** 400 `invalid_request_error`: what was asked makes no sense or is not allowed in the object's state. */
export function invalidRequest(message: string, details: { param?: string; code?: string } = {}): StripeError {
  return new StripeError(400, { type: 'invalid_request_error', message, ...details })
}

/** An id that names nothing: 404 when it stands in the path, 400 when it stands in a parameter. */
export function noSuch(what: string, id: string, param = 'id'): StripeError {
  return new StripeError(param === 'id' ? 404 : 400, {
    type: 'invalid_request_error',
    code: 'resource_missing',
    message: `No such ${what.replaceAll(/[._]/g, ' ')}: '${id}'`,
    param,
  })
}

/** 400 `parameter_missing`, for rules that the OpenAPI document cannot express. */
export function missing(param: string): StripeError {
  return new StripeError(400, {
    type: 'invalid_request_error',
    code: 'parameter_missing',
    message: `Missing required param: ${param}.`,
    param,
  })
}

/** 402 `card_error`. Keeps the operation's effects: the failed charge and the intent's last error stay. */
export function cardError(body: Omit<ErrorBody, 'type'> & { message: string }): StripeError {
  return new StripeError(402, { ...body, type: 'card_error' }, { keepsEffects: true })
}

/** What this emulator does not do, said by name. Never answered with a made-up success. */
export function notSupported(what: string, param?: string): StripeError {
  const body: ErrorBody = { type: 'invalid_request_error', message: `${what} is not supported by this sandbox.` }
  return new StripeError(400, param === undefined ? body : { ...body, param }, { beforeExecution: true })
}

/** Runs work whose card error must undo the whole operation instead of keeping its effects. */
export function withoutEffects<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (!(error instanceof StripeError) || !error.keepsEffects) throw error
    throw new StripeError(error.status, error.body, { headers: error.headers })
  }
}
