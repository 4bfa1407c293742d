import { createConnection, type Socket } from 'node:net'

/** One request of a load: its body, or null for a GET. */
export type MakeBody = () => string | null

export type LoadOptions = {
  readonly port: number
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly connections: number
  readonly seconds: number
  readonly makeBody: MakeBody
  /** What is counted in the bodies of the answers: how often this text occurs. */
  readonly count: string
}

export type LoadResult = {
  readonly requests: number
  readonly seconds: number
  readonly p50Ms: number
  readonly p99Ms: number
  /** How often the counted text occurred. */
  readonly counted: number
  /** Answers with another status than 200. */
  readonly failures: number
  /** What the generator itself took of the processor, for each request. */
  readonly cpuMicros: number
}

/**
 * Keeps `connections` requests in flight for a time, each connection sending its next when it has its answer, and waits for
 * the last ones. Speaks HTTP/1.1 over bare sockets, so that little of the machine goes to the generator.
 */
export async function runHttpLoad(options: LoadOptions): Promise<LoadResult> {
  const latencies: number[] = []
  const tally = { counted: 0, failures: 0 }
  const cpu = process.cpuUsage()
  const began = performance.now()
  const until = began + options.seconds * 1_000
  await Promise.all(Array.from({ length: options.connections }, () => driveConnection(options, until, latencies, tally)))
  const seconds = (performance.now() - began) / 1_000
  const { user, system } = process.cpuUsage(cpu)
  latencies.sort((a, b) => a - b)
  const at = (share: number): number => latencies[Math.floor(latencies.length * share)] ?? 0
  return {
    requests: latencies.length,
    seconds,
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    cpuMicros: (user + system) / latencies.length,
    ...tally,
  }
}

type Tally = { counted: number; failures: number }

function driveConnection(options: LoadOptions, until: number, latencies: number[], tally: Tally): Promise<void> {
  const socket = createConnection({ port: options.port, host: '127.0.0.1', noDelay: true })
  const head = requestHead(options)
  return new Promise((resolve, reject) => {
    let sentAt = 0
    let received = ''
    const send = (): void => {
      sentAt = performance.now()
      if (sentAt >= until) {
        socket.end()
        resolve()
        return
      }
      write(socket, head, options.makeBody())
    }
    socket.setEncoding('latin1')
    socket.on('connect', send)
    socket.on('error', reject)
    socket.on('close', () => reject(new Error('The server closed a connection in the middle of the load.')))
    socket.on('data', (chunk: string) => {
      received = received === '' ? chunk : received + chunk
      const bodyAt = startOfBody(received)
      if (bodyAt === null) return
      latencies.push(performance.now() - sentAt)
      if (!received.startsWith('HTTP/1.1 200')) tally.failures += 1
      tally.counted += occurrences(received, options.count, bodyAt)
      received = ''
      send()
    })
  })
}

function requestHead({ path, headers, makeBody }: LoadOptions): string {
  const method = makeBody() === null ? 'GET' : 'POST'
  const lines = Object.entries({ host: '127.0.0.1', ...headers }).map(([name, value]) => `${name}: ${value}\r\n`)
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}`
}

// The bodies are ASCII: as many bytes as characters.
function write(socket: Socket, head: string, body: string | null): void {
  if (body === null) socket.write(`${head}\r\n`, 'latin1')
  else socket.write(`${head}content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`, 'latin1')
}

const LENGTH = 'content-length: '

/** Where the body of an answer begins that has arrived whole; null while some is missing. */
function startOfBody(received: string): number | null {
  const end = received.indexOf('\r\n\r\n')
  if (end < 0) return null
  const at = received.indexOf(LENGTH)
  if (at < 0 || at > end) throw new Error('An answer without a content-length.')
  const length = Number.parseInt(received.slice(at + LENGTH.length, at + LENGTH.length + 10), 10)
  return received.length - end - 4 >= length ? end + 4 : null
}

function occurrences(text: string, part: string, from: number): number {
  let count = 0
  for (let at = text.indexOf(part, from); at >= 0; at = text.indexOf(part, at + part.length)) count += 1
  return count
}
