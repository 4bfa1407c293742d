import type { Socket } from 'node:net'
import type { Reply } from './bare.ts'
import { plainReplyText, readPlainRequest, type PlainHead, type PlainRequest } from './plain-requests.ts'

/** Answers a plain request by calling `send` once; false, at once, for one that is not its own. */
export type PlainHandler = (request: PlainRequest, send: (requestId: string, reply: Reply) => void) => boolean

export type PlainConnectionsOptions = {
  readonly handler: PlainHandler
  /** Gives a connection to `node:http` for good. */
  readonly handOver: (socket: Socket) => void
  readonly keepAliveMs: number
}

/**
 * Reads connections before `node:http` does, as long as each piece that arrives is one plain request of a handler's routes: nothing is ever put
 * together here. With the first piece that is anything else the connection is `node:http`'s, that piece included.
 */
export class PlainConnections {
  readonly #options: PlainConnectionsOptions
  readonly #open = new Set<PlainConnection>()
  #isStopping = false

  constructor(options: PlainConnectionsOptions) {
    this.#options = options
  }

  add(socket: Socket): void {
    const connection = new PlainConnection(socket, {
      ...this.#options,
      onGone: () => this.#open.delete(connection),
      isStopping: () => this.#isStopping,
    })
    this.#open.add(connection)
  }

  /** From now on an answer is the last one of its connection. */
  stop(): void {
    this.#isStopping = true
  }

  closeIdle(): void {
    for (const connection of this.#open) connection.closeIdle()
  }

  closeAll(): void {
    for (const connection of this.#open) connection.socket.destroy()
  }
}

type Surroundings = PlainConnectionsOptions & { readonly onGone: () => void; readonly isStopping: () => boolean }

class PlainConnection {
  readonly socket: Socket
  readonly #around: Surroundings
  #head: PlainHead | null = null
  #isAnswering = false
  #hasEnded = false
  /** What arrived while an answer was under way. */
  #early: Buffer | null = null

  constructor(socket: Socket, around: Surroundings) {
    this.socket = socket
    this.#around = around
    socket.setTimeout(around.keepAliveMs)
    socket.on('data', this.#onData)
    socket.on('end', this.#onEnd)
    socket.on('timeout', this.closeIdle)
    socket.on('error', this.#onError)
    socket.on('close', around.onGone)
  }

  readonly closeIdle = (): void => {
    if (!this.#isAnswering) this.socket.destroy()
  }

  readonly #onData = (bytes: Buffer): void => {
    if (this.#isAnswering) {
      // Answers go out in the order of the questions, so nothing more is read until this one has gone.
      this.#early = this.#early === null ? bytes : Buffer.concat([this.#early, bytes])
      this.socket.pause()
      return
    }
    const request = readPlainRequest(bytes, this.#head)
    if (request === null) return this.#handOver(bytes)
    this.#head = request.head
    this.#isAnswering = true
    if (this.#around.handler(request, this.#send)) return
    this.#isAnswering = false
    this.#handOver(bytes)
  }

  readonly #send = (requestId: string, reply: Reply): void => {
    this.#isAnswering = false
    const { socket } = this
    // Nobody is there any more to be answered.
    if (!socket.writable) return
    const isLast = this.#hasEnded || this.#around.isStopping()
    const keepAliveSeconds = isLast ? null : Math.floor(this.#around.keepAliveMs / 1_000)
    const { text, encoding } = plainReplyText({ requestId, reply, keepAliveSeconds })
    const isTaken = socket.write(text, encoding)
    if (isLast) {
      // What still comes is not carried out: its answer would not arrive (RFC 9112, section 9.6).
      socket.off('data', this.#onData)
      socket.end()
      socket.resume()
    } else if (this.#early !== null) {
      this.#handOver(this.#early)
    } else if (!isTaken) {
      // Whoever does not read its answers asks no more meanwhile.
      socket.pause()
      socket.once('drain', () => socket.resume())
    }
  }

  readonly #onEnd = (): void => {
    this.#hasEnded = true
    if (!this.#isAnswering) this.socket.end()
  }

  /** A caller that hangs up: `close` follows. */
  readonly #onError = (): void => {}

  #handOver(bytes: Buffer): void {
    const { socket } = this
    this.#around.onGone()
    socket.off('data', this.#onData)
    socket.off('end', this.#onEnd)
    socket.off('timeout', this.closeIdle)
    socket.off('error', this.#onError)
    socket.off('close', this.#around.onGone)
    socket.setTimeout(0)
    socket.pause()
    socket.unshift(bytes)
    this.#around.handOver(socket)
    socket.resume()
  }
}
