import { lookup as dnsLookup, type LookupAddress } from 'node:dns'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import { request as httpsRequest } from 'node:https'
import { isIP, type LookupFunction } from 'node:net'
import { toStorable } from '../lib/storable.ts'
import { hostOf, isAllowedAddress, type DestinationPolicy } from './rules.ts'

/** What came of one attempt. */
export type PostOutcome = {
  /** null when nothing was answered; `error` then says why. */
  readonly status: number | null
  readonly error: string | null
  /** The first kilobyte of the answer. */
  readonly response: string | null
  readonly durationMs: number
}

export type Post = (message: {
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}) => Promise<PostOutcome>

/** All addresses of a name, as `dns.lookup` with `all` answers them: with an error there are none, whatever its type says. */
export type Resolve = (hostname: string, done: (error: Error | null, addresses?: readonly LookupAddress[]) => void) => void

export type PostOptions = DestinationPolicy & {
  /** From the beginning of the connection to the end of the answer; default 15 s. */
  readonly timeoutMs?: number
  /** Default: the system's. */
  readonly resolve?: Resolve
}

const TIMEOUT_MS = 15_000
const KEPT_BYTES = 1_024

const resolveBySystem: Resolve = (hostname, done) => dnsLookup(hostname, { all: true }, done)

/**
 * Makes what sends webhooks. A name is resolved by ourselves, and the connection goes to an address that was checked, so that a name which
 * changes its address in between leads nowhere else. Redirects are not followed, and no proxy of the environment is used.
 */
export function createPost(options: PostOptions): Post {
  const { timeoutMs = TIMEOUT_MS, resolve = resolveBySystem } = options
  return async ({ url, headers, body }) => {
    const began = performance.now()
    const outcome = await attempt({
      url,
      headers,
      body,
      timeoutMs,
      lookup: lookupAllowed(url, resolve, options),
      policy: options,
    })
    return { ...outcome, durationMs: Math.round(performance.now() - began) }
  }
}

type Attempt = {
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  readonly timeoutMs: number
  readonly lookup: LookupFunction
  readonly policy: DestinationPolicy
}

function attempt({ url, headers, body, timeoutMs, lookup, policy }: Attempt): Promise<Omit<PostOutcome, 'durationMs'>> {
  // A connection to an address looks no name up.
  if (isIP(hostOf(url)) !== 0 && !isAllowedAddress(hostOf(url), url, policy))
    return Promise.resolve(failure(refusal(hostOf(url))))
  const signal = AbortSignal.timeout(timeoutMs)
  return new Promise((resolve) => {
    const request = (url.protocol === 'https:' ? httpsRequest : httpRequest)(url, {
      method: 'POST',
      headers: {
        ...headers,
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
        'user-agent': 'Tollgate-Webhooks/1.0',
        'accept-encoding': 'identity',
      },
      // A connection of its own: nothing is shared with other endpoints, nor kept open by one.
      agent: false,
      lookup,
      signal,
    })
    let answered = false
    request.on('error', (error) => {
      // Once a status is said, that the rest does not come changes nothing.
      if (!answered) resolve(failure(signal.aborted ? `No answer within ${timeoutMs / 1_000} seconds.` : error.message))
    })
    // Without a listener neither an answer nor an error would ever be told.
    request.on('upgrade', ({ statusCode = null }, socket) => {
      socket.destroy()
      resolve({ status: statusCode, error: null, response: null })
    })
    request.on('close', () => {
      if (!answered) resolve(failure('The connection was closed without an answer.'))
    })
    request.on('response', (answer) => {
      answered = true
      void readStart(answer).then((response) => {
        request.destroy()
        resolve({ status: answer.statusCode ?? null, error: null, response })
      })
    })
    request.end(body)
  })
}

function failure(error: string): Omit<PostOutcome, 'durationMs'> {
  return { status: null, error, response: null }
}

function refusal(address: string): string {
  return `${address} is not on the public network: nothing was sent.`
}

function lookupAllowed(url: URL, resolve: Resolve, policy: DestinationPolicy): LookupFunction {
  return (hostname, options, done) => {
    resolve(hostname, (error, addresses = []) => {
      const [first] = addresses
      if (error !== null || first === undefined) return done(error ?? new Error(`${hostname} has no address.`), [])
      const refused = addresses.find(({ address }) => !isAllowedAddress(address, url, policy))
      // One address that must not be reached is enough: a name that mixes them is not an honest one.
      if (refused) return done(new Error(refusal(refused.address)), [])
      if (options.all === true) return done(null, [...addresses])
      done(null, first.address, first.family)
    })
  }
}

/** The first kilobyte of what is answered, as text that PostgreSQL can hold; what was read so far when it breaks off. */
async function readStart(answer: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let size = 0
  try {
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      chunks.push(chunk)
      size += chunk.length
      if (size >= KEPT_BYTES) break
    }
  } catch {
    // It broke off, or the time was over.
  }
  return toStorable(Buffer.concat(chunks).subarray(0, KEPT_BYTES).toString('utf8'))
}
