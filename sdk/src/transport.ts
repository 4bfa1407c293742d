import { TollgateError, TollgateUnreachableError, type Problem } from './errors.ts'

/** How a client reaches the server. */
export type TransportOptions = {
  /** Where the server is, e.g. `http://127.0.0.1:3000`; a path prefix is kept. */
  readonly url: string
  /** An organization's API key, or an operator's. Sent as a bearer token, never logged. */
  readonly apiKey: string
  /** How long one attempt may take, in milliseconds. Default 5,000. */
  readonly timeoutMs?: number
  /** How often a failed attempt is repeated. Default 3. Every repetition carries the same idempotency key. */
  readonly retries?: number
  /** Another `fetch`, e.g. the `fetch` of a server in the same process. */
  readonly fetch?: (request: Request) => Promise<Response>
}

export type Transport = {
  get<Answer>(path: string): Promise<Answer>
  post<Answer>(path: string, body: unknown): Promise<Answer>
}

export const RETRIES = 3

const FIRST_DELAY_MS = 50
const LONGEST_DELAY_MS = 5_000

/**
 * Sends JSON and repeats what failed on the way: no answer, 429, 502, 503, 504. Only for requests that are safe to repeat:
 * reads, and writes that carry their idempotency key in the body.
 */
export function createTransport(options: TransportOptions): Transport {
  const send = options.fetch ?? ((request: Request) => fetch(request))
  const base = options.url.replace(/\/+$/, '')
  const retries = options.retries ?? RETRIES

  async function attempt<Answer>(method: string, path: string, body: unknown): Promise<Outcome<Answer>> {
    const request = new Request(base + path, {
      method,
      headers: {
        authorization: `Bearer ${options.apiKey}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      body: body === undefined ? null : JSON.stringify(body),
      signal: AbortSignal.timeout(options.timeoutMs ?? 5_000),
    })
    try {
      const response = await send(request)
      // An answer that breaks off, or is no JSON, is none.
      const text = await response.text()
      if (response.ok) return { kind: 'answered', answer: (text === '' ? undefined : JSON.parse(text)) as Answer }
      const retryAfter = Number(response.headers.get('retry-after') ?? Number.NaN)
      return { kind: 'refused', status: response.status, text, retryAfter }
    } catch (error) {
      return { kind: 'lost', error: error instanceof Error ? error : new Error(String(error)) }
    }
  }

  async function call<Answer>(method: string, path: string, body?: unknown): Promise<Answer> {
    let mayHaveArrived = false
    for (let tried = 0; ; tried++) {
      const outcome = await attempt<Answer>(method, path, body)
      if (outcome.kind === 'answered') return outcome.answer
      const isFinal = tried >= retries
      mayHaveArrived ||= outcome.kind === 'refused' || !isUnconnected(outcome.error)
      if (outcome.kind === 'refused' && (isFinal || !isRepeatable(outcome.status))) {
        throw new TollgateError(outcome.status, readProblem(outcome.text, outcome.status))
      }
      if (outcome.kind === 'lost' && isFinal) {
        const sentence = `${method} ${path} had no answer after ${tried + 1} attempts: ${outcome.error.message}`
        throw new TollgateUnreachableError(sentence, { cause: outcome.error, mayHaveArrived })
      }
      await delay(delayBeforeRetry(outcome.kind === 'refused' ? outcome.retryAfter : Number.NaN, tried))
    }
  }

  return {
    get: (path) => call('GET', path),
    post: (path, body) => call('POST', path, body),
  }
}

type Outcome<Answer> =
  | { readonly kind: 'answered'; readonly answer: Answer }
  | { readonly kind: 'refused'; readonly status: number; readonly text: string; readonly retryAfter: number }
  | { readonly kind: 'lost'; readonly error: Error }

// As Node names them; elsewhere what failed may have arrived.
const UNCONNECTED: ReadonlySet<unknown> = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH'])

function isUnconnected({ cause }: Error): boolean {
  return cause instanceof Error && 'code' in cause && UNCONNECTED.has(cause.code)
}

export function isRepeatable(status: number): boolean {
  return status === 429 || status === 502 || status === 503 || status === 504
}

/** What the server asks for in Retry-After, else (NaN) doubling from 50 ms; at most 5 s. */
export function delayBeforeRetry(retryAfterSeconds: number, tried: number): number {
  const wanted = Number.isFinite(retryAfterSeconds) ? retryAfterSeconds * 1_000 : FIRST_DELAY_MS * 2 ** tried
  return Math.min(wanted, LONGEST_DELAY_MS)
}

export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms)
  })
}

/** The problem document of a refusal; a proxy's own page becomes a problem with the status as its title. */
function readProblem(text: string, status: number): Problem {
  try {
    const parsed: unknown = JSON.parse(text)
    if (parsed !== null && typeof parsed === 'object') return { title: `HTTP ${status}`, code: 'unknown', ...parsed }
  } catch {
    // Not JSON: what stands between us and the server has answered.
  }
  return { title: `HTTP ${status}`, code: 'unknown' }
}
