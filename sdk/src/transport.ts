import { circuitOf, createCircuit, type Passage } from './circuit.ts'
import { elapsedMs } from './clock.ts'
import { TollgateError, TollgateUnreachableError, type Problem } from './errors.ts'

/** How a client reaches the server. */
export type TransportOptions = {
  /** Where the server is, e.g. `http://127.0.0.1:3000`; a path prefix is kept. */
  readonly url: string
  /** An organization's API key, or an operator's. Sent as a bearer token, never logged. Empty only beside a `fetch` that says itself who calls. */
  readonly apiKey: string
  /** How long a call may take with all its attempts and the pauses between them, in milliseconds. Default 3,000. */
  readonly deadlineMs?: number
  /** How long one attempt may take, in milliseconds. Default 2,000. */
  readonly timeoutMs?: number
  /** How often a failed attempt is repeated. Default 3. Every repetition carries the same idempotency key. */
  readonly retries?: number
  /**
   * After a call that had no answer, for how long further calls are not sent but fail at once, in milliseconds. Default 1,000; 0: never. Then one
   * call looks, by one attempt, whether the server is back. Clients of one `url` share this memory.
   */
  readonly awayMs?: number
  /** Another `fetch`, e.g. the `fetch` of a server in the same process; a client with one has a memory of its own. */
  readonly fetch?: (request: Request) => Promise<Response>
}

/** The time that is left for a call. */
export type Deadline = { leftMs(): number }

export type Transport = {
  startDeadline(): Deadline
  get<Answer>(path: string): Promise<Answer>
  post<Answer>(path: string, body: unknown, deadline?: Deadline): Promise<Answer>
}

export const RETRIES = 3

export const DEADLINE_MS = 3_000
const TIMEOUT_MS = 2_000
const AWAY_MS = 1_000

const FIRST_DELAY_MS = 50
const LONGEST_DELAY_MS = 5_000

/**
 * Sends JSON and repeats what failed on the way: no answer, 429, 502, 503, 504. Only for requests that are safe to repeat:
 * reads, and writes that carry their idempotency key in the body. Gives up at the deadline, and at once while the server is known to be away.
 * @throws TypeError for an address or a key that is none, as of a variable that is not set
 */
export function createTransport(options: TransportOptions): Transport {
  const { retries = RETRIES, deadlineMs = DEADLINE_MS, timeoutMs = TIMEOUT_MS, awayMs = AWAY_MS } = options
  const send = options.fetch ?? ((request: Request) => fetch(request))
  const base = baseOf(options)
  const circuit = options.fetch === undefined ? circuitOf(base, elapsedMs) : createCircuit(elapsedMs)

  function startDeadline(): Deadline {
    const end = elapsedMs() + deadlineMs
    return { leftMs: () => end - elapsedMs() }
  }

  async function attempt<Answer>({ method, path, body }: Call, leftMs: number): Promise<Outcome<Answer>> {
    const signal = AbortSignal.timeout(Math.max(0, Math.min(timeoutMs, Math.ceil(leftMs))))
    const request = new Request(base + path, {
      method,
      headers: {
        authorization: `Bearer ${options.apiKey}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      body: body === undefined ? null : JSON.stringify(body),
      signal,
    })
    try {
      return await unlessAborted(signal, readOutcome<Answer>(send(request)))
    } catch (error) {
      return { kind: 'lost', error: error instanceof Error ? error : new Error(String(error)) }
    }
  }

  async function attemptAll<Answer>(call: Call, deadline: Deadline, passage: Passage): Promise<Answer> {
    const mostRetries = passage.isProbe ? 0 : retries
    let mayHaveArrived = false
    for (let tried = 0; ; tried++) {
      const outcome = await attempt<Answer>(call, deadline.leftMs())
      if (outcome.kind !== 'lost') passage.answered()
      if (outcome.kind === 'answered') return outcome.answer
      const pauseMs = delayBeforeRetry(outcome.kind === 'refused' ? outcome.retryAfter : Number.NaN, tried)
      const isFinal = tried >= mostRetries || pauseMs >= deadline.leftMs()
      mayHaveArrived ||= outcome.kind === 'refused' || !isUnconnected(outcome.error)
      if (outcome.kind === 'refused' && (isFinal || !isRepeatable(outcome.status))) {
        throw new TollgateError(outcome.status, readProblem(outcome.text, outcome.status))
      }
      if (outcome.kind === 'lost' && isFinal) {
        passage.lost(awayMs)
        const attempts = tried === 0 ? 'an attempt' : `${tried + 1} attempts`
        const sentence = `${call.method} ${call.path} had no answer after ${attempts}: ${outcome.error.message}`
        throw new TollgateUnreachableError(sentence, { cause: outcome.error, mayHaveArrived })
      }
      await delay(pauseMs)
    }
  }

  async function make<Answer>(call: Call, deadline = startDeadline()): Promise<Answer> {
    const passage = circuit.enter()
    if (passage === null) {
      const sentence = `${call.method} ${call.path} was not sent: a call just before it had no answer.`
      throw new TollgateUnreachableError(sentence, { mayHaveArrived: false })
    }
    try {
      return await attemptAll<Answer>(call, deadline, passage)
    } finally {
      passage.end()
    }
  }

  return {
    startDeadline,
    get: (path) => make({ method: 'GET', path }),
    post: (path, body, deadline) => make({ method: 'POST', path, body }, deadline),
  }
}

type Call = { readonly method: string; readonly path: string; readonly body?: unknown }

type Outcome<Answer> =
  | { readonly kind: 'answered'; readonly answer: Answer }
  | { readonly kind: 'refused'; readonly status: number; readonly text: string; readonly retryAfter: number }
  | { readonly kind: 'lost'; readonly error: Error }

/** An answer that breaks off, or is no JSON, is none. */
async function readOutcome<Answer>(answering: Promise<Response>): Promise<Outcome<Answer>> {
  const response = await answering
  const text = await response.text()
  if (response.ok) return { kind: 'answered', answer: (text === '' ? undefined : JSON.parse(text)) as Answer }
  const retryAfter = Number(response.headers.get('retry-after') ?? Number.NaN)
  return { kind: 'refused', status: response.status, text, retryAfter }
}

/** What a promise comes to, unless the signal is first: a `fetch` of the host's own may not heed it. */
function unlessAborted<Value>(signal: AbortSignal, promise: Promise<Value>): Promise<Value> {
  return new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true })
    promise.then(resolve, reject)
  })
}

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

function baseOf({ url, apiKey, fetch }: TransportOptions): string {
  if (!/^https?:\/\/./.test(url) || !URL.canParse(url)) {
    throw new TypeError('url must be the address of the Tollgate server, such as http://127.0.0.1:3000.')
  }
  if (typeof apiKey !== 'string' || (apiKey === '' && fetch === undefined))
    throw new TypeError('apiKey must be a key of Tollgate: it is not set.')
  // The error of fetch would have the key in its words. Blanks around it, as of a file's last line, fetch takes off.
  if (/[^\t\x20-\x7e\x80-\xff]/.test(apiKey.trim()))
    throw new TypeError('apiKey must be a key of Tollgate: it has a line break or a character that no header has.')
  return url.replace(/\/+$/, '')
}
