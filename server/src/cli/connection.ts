import { createWriteStream, existsSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import { parseJson } from '../lib/json.ts'
import { readRuntime } from '../runtime-file.ts'

/** A failure that a person can act on; printed as a sentence, without a stack. */
export class CliError extends Error {
  readonly details: unknown

  constructor(message: string, details: unknown = null) {
    super(message)
    this.name = 'CliError'
    this.details = details
  }
}

export type ConnectionOptions = {
  readonly url?: string | undefined
  readonly operatorKey?: string | undefined
  readonly dataDir: string
}

export type Connection = {
  readonly url: string
  /** The Stripe sandbox of the development server here; null where there is none, or another server was named. */
  readonly sandboxUrl: string | null
  /** Hands on the text of a file as it arrives. */
  download(path: string, write: (text: string) => void): Promise<void>
  /**
   * Writes what the server answers, as it arrives, to a file that is there whole or not at all; until then it is called `<file>.part`. Answers its
   * bytes.
   * @throws CliError when the file is there already, or the answer breaks off
   */
  saveFile(path: string, file: string): Promise<number>
  /** @param requestKey the Idempotency-Key of what makes something; without an answer, the error says how the same is asked for again */
  call<Answer>(method: 'GET' | 'POST' | 'PATCH' | 'DELETE', path: string, body?: unknown, requestKey?: string): Promise<Answer>
}

/**
 * A connection to the server that is named, or else to the development server of this data directory.
 * @throws CliError when none is named and none is running
 */
export function connect(options: ConnectionOptions): Connection {
  const runtime = readRuntime(options.dataDir)
  const url = options.url ?? runtime?.url
  // The key that lies here is for the server that runs here, wherever else a call goes.
  const key = options.operatorKey ?? (url === runtime?.url ? runtime?.operatorKey : undefined)
  if (url === undefined || key === undefined) {
    if (url !== undefined) throw new CliError(`The operator key of ${url} is missing: set TOLLGATE_OPERATOR_KEY.`)
    const other = 'name one with --url and TOLLGATE_OPERATOR_KEY, or with TOLLGATE_DATA_DIR where it keeps its data'
    throw new CliError(`No server is running here. Start one with "npm start", ${other}.`)
  }
  const sandboxUrl = options.url === undefined ? (runtime?.sandboxUrl ?? null) : null
  return {
    url,
    sandboxUrl,
    saveFile: (path, file) => saveFrom({ url, key, method: 'GET', path, body: undefined }, file),
    call: (method, path, body, requestKey) => callServer({ url, key, method, path, body, requestKey }),
    download: (path, write) => downloadFrom({ url, key, method: 'GET', path, body: undefined }, write),
  }
}

type Call = {
  readonly url: string
  readonly key: string
  readonly method: string
  readonly path: string
  readonly body: unknown
  readonly requestKey?: string | undefined
}

async function callServer<Answer>(call: Call): Promise<Answer> {
  const response = await request(call)
  const text = await response.text().catch((error: unknown) => {
    throw unanswered(call, error)
  })
  const answer: unknown = text === '' ? null : parseJson(text)
  if (response.ok) return answer as Answer
  throw refusal(call, response.status, text)
}

async function downloadFrom(call: Call, write: (text: string) => void): Promise<void> {
  const response = await request(call)
  if (!response.ok) throw refusal(call, response.status, await response.text())
  const decoder = new TextDecoder()
  for await (const chunk of response.body ?? []) write(decoder.decode(chunk, { stream: true }))
}

async function saveFrom(call: Call, file: string): Promise<number> {
  const response = await request(call)
  if (!response.ok) throw refusal(call, response.status, await response.text())
  const part = createWriteStream(`${file}.part`)
  try {
    await pipeline(response.body ?? [], part).catch((error: unknown) => {
      throw new CliError(`${call.path} broke off: ${error instanceof Error ? error.message : String(error)}.`)
    })
    if (existsSync(file)) throw new CliError(`${file} is there already; nothing was written.`)
    await rename(part.path, file)
  } finally {
    await rm(part.path, { force: true })
  }
  return part.bytesWritten
}

async function request(call: Call): Promise<Response> {
  const { url, key, method, path, body, requestKey } = call
  return fetch(url + path, {
    method,
    headers: {
      authorization: `Bearer ${key}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(requestKey === undefined ? {} : { 'idempotency-key': requestKey }),
    },
    body: body === undefined ? null : JSON.stringify(body),
  }).catch((error: unknown) => {
    throw unanswered(call, error)
  })
}

function unanswered(call: Call, error: unknown): CliError {
  return new CliError(`${call.url} does not answer: ${reasonOf(error)}.${again(call)}`)
}

/** fetch says that it failed; what failed is beneath. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.cause instanceof Error && error.cause.message !== '' ? `${error.message} (${error.cause.message})` : error.message
}

function refusal(call: Call, status: number, text: string): CliError {
  const answer: unknown = text === '' ? null : parseJson(text)
  const detail = answer !== null && typeof answer === 'object' && 'detail' in answer ? String(answer.detail) : text
  return new CliError(`${call.method} ${call.path} answered ${status}: ${detail}${status < 500 ? '' : again(call)}`, answer)
}

/** What was asked for may have been made all the same. */
function again({ requestKey }: Call): string {
  return requestKey === undefined ? '' : ` The same is asked for again with --idempotency-key ${requestKey}`
}
