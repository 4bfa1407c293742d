import type { ClientBase, QueryConfig, QueryResult } from 'pg'
import { assert } from '../lib/errors.ts'
import type { Queryable } from './queryable.ts'
import { arrayBytes } from './wire-arrays.ts'
import { MessageWriter, type WireValue } from './wire-messages.ts'
import { readColumns, readParameterTypes, readRow, type Column } from './wire-rows.ts'

/** A statement on its way: a named one is prepared once per connection. */
type Statement = {
  readonly name: string
  readonly text: string
  readonly values: readonly WireValue[]
  /** What `copy … from stdin` reads. */
  readonly copied: CopiedRows | null
  readonly resolve: (result: QueryResult) => void
  readonly reject: (error: unknown) => void
}

/** What runs statements in packets: those that are asked for in one turn travel together. */
export type PacketClient = Queryable & {
  /** The same for as long as the connection is, whoever it is lent to. */
  readonly connection: object
  /** `copy … from stdin`, with its rows in the format that the statement names. */
  copy(statement: { readonly name: string; readonly text: string }, rows: CopiedRows): Promise<void>
}

/** Rows to be copied, as a message of the protocol. */
export type CopiedRows = {
  readonly message: Buffer
  /** Called when the message has left this process. */
  readonly onSent: () => void
}

// What `pg` gives a query that it hands messages to; its types say otherwise, or leave it out.
type WireConnection = { readonly stream: WireStream }
type OnData = (bytes: Buffer) => void
type WireStream = {
  write(bytes: Buffer, onSent: () => void): void
  listeners(event: 'data'): OnData[]
  removeListener(event: 'data', listener: OnData): void
  on(event: 'data', listener: OnData): void
}

/** What PostgreSQL has told of a statement. */
type Description = { readonly parameters: readonly number[]; readonly columns: readonly Column[] }

const NOT_DESCRIBED: Description = { parameters: [], columns: [] }

/** The named statements that a connection has prepared; null after a failure that leaves it open whether it has. */
type Prepared = Map<string, Description | null>

// https://www.postgresql.org/docs/current/protocol-message-formats.html
const DATA_ROW = 0x44
const COMMAND_COMPLETE = 0x43
const ROW_DESCRIPTION = 0x54
const PARAMETER_DESCRIPTION = 0x74
/** Parsed, bound, closed, no rows, copying may begin: nothing that anybody waits for. */
const UNREMARKABLE = new Set(['1', '2', '3', 'n', 'G'].map((code) => code.charCodeAt(0)))
const HEADER_BYTES = 5

/**
 * What is between a connection and `pg`, which has opened it: the rows of packets are read here, where they arrive, and everything else
 * (errors, the end of a packet, what other queries are answered) is handed on as it came.
 */
class Wire {
  readonly prepared: Prepared = new Map()
  readonly #stream: WireStream
  readonly #handOn: OnData
  #packet: Packet | null = null
  #rest: Buffer | null = null

  constructor(stream: WireStream) {
    const [handOn, ...others] = stream.listeners('data')
    assert(handOn && others.length === 0, '`pg` alone reads from its connection')
    this.#stream = stream
    this.#handOn = handOn
    stream.removeListener('data', handOn)
    stream.on('data', (bytes) => this.#read(bytes))
  }

  send(packet: Packet, writer: MessageWriter): void {
    this.#packet = packet
    const { bytes, onSent } = writer.finish()
    this.#stream.write(bytes, onSent)
  }

  /** What comes next is not this packet's. */
  end(packet: Packet): void {
    if (this.#packet === packet) this.#packet = null
  }

  #read(chunk: Buffer): void {
    const bytes = this.#rest === null ? chunk : Buffer.concat([this.#rest, chunk])
    this.#rest = null
    let at = 0
    while (at + HEADER_BYTES <= bytes.length) {
      const end = at + 1 + bytes.readInt32BE(at + 1)
      if (end > bytes.length) break
      if (this.#packet?.take(bytes, at) !== true) this.#handOn(bytes.subarray(at, end))
      at = end
    }
    if (at < bytes.length) this.#rest = bytes.subarray(at)
  }
}

const wires = new WeakMap<WireConnection, Wire>()

function wireOf(connection: WireConnection): Wire {
  let wire = wires.get(connection)
  if (!wire) wires.set(connection, (wire = new Wire(connection.stream)))
  return wire
}

// A statement that was prepared before its tables changed, or whose preparation somebody has thrown away.
const STALE: ReadonlySet<string> = new Set(['0A000', '26000'])

/**
 * Statements that travel as one packet with one Sync behind them: PostgreSQL wakes up once, answers once, and this process reads
 * once; what the columns of a named statement are is asked once. Each with its own Sync, as `pg` pipelines them, a use at 64
 * connections cost PostgreSQL 42 µs, now 34 (docs/decisions/0035-one-packet-each-way.md).
 *
 * If one fails, PostgreSQL skips the others and all of them are rejected with its error
 * (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING).
 */
class Packet {
  readonly #statements: readonly Statement[]
  readonly #onEnd: () => void
  readonly #results: QueryResult[] = []
  /** What was known of each statement when it was sent: then its rows are asked for in binary. */
  readonly #known: (Description | null)[] = []
  #wire: Wire | null = null
  #description = NOT_DESCRIBED
  #rows: unknown[] = []

  constructor(statements: readonly Statement[], onEnd: () => void) {
    this.#statements = statements
    this.#onEnd = onEnd
  }

  /** Called by `pg` when it is this packet's turn. */
  submit(connection: unknown): void {
    const wire = wireOf(connection as WireConnection)
    this.#wire = wire
    const writer = new MessageWriter()
    const parsed = new Set<string>()
    for (const { name, text, values, copied } of this.#statements) {
      const known = name === '' ? undefined : wire.prepared.get(name)
      // The same statement may be asked for several times in one packet: it is prepared once.
      const isParsed = Boolean(known) || parsed.has(name)
      if (known === null && !isParsed) writer.close(name)
      if (!isParsed) writer.parse(name, text)
      if (name !== '') parsed.add(name)
      if (!known) writer.describe(name)
      writer.bind(name, values, known?.columns.map(({ format }) => format) ?? [])
      this.#known.push(known ?? null)
      writer.execute()
      if (copied === null) continue
      // Sent without waiting for the server's leave; should the statement fail, the server drops the rows by itself.
      writer.whole(copied.message)
      copied.onSent()
      writer.copyDone()
    }
    writer.sync()
    this.#begin()
    wire.send(this, writer)
  }

  /** Reads the message that begins at `at`; answers whether it was one for a packet. */
  take(bytes: Buffer, at: number): boolean {
    const code = bytes[at]!
    const from = at + HEADER_BYTES
    if (code === DATA_ROW) {
      this.#rows.push(readRow(this.#description.columns, bytes, from, this.#known[this.#results.length] === null))
    } else if (code === COMMAND_COMPLETE) {
      this.#complete(bytes.toString('latin1', from, bytes.indexOf(0, from)))
    } else if (code === ROW_DESCRIPTION) {
      this.#description = { ...this.#description, columns: readColumns(bytes, from) }
    } else if (code === PARAMETER_DESCRIPTION) {
      this.#description = { ...this.#description, parameters: readParameterTypes(bytes, from) }
    } else {
      return UNREMARKABLE.has(code)
    }
    return true
  }

  #begin(): void {
    this.#description = this.#known[this.#results.length] ?? NOT_DESCRIBED
    this.#rows = []
  }

  /** @param tag such as `SELECT 3`, `INSERT 0 3`, `COMMIT` */
  #complete(tag: string): void {
    const { name } = this.#statements[this.#results.length]!
    if (name !== '') this.#wire!.prepared.set(name, this.#description)
    const [command = '', ...numbers] = tag.split(' ')
    const rowCount = numbers.length === 0 ? null : Number(numbers.at(-1))
    this.#results.push({ command, rowCount, rows: this.#rows as never[], oid: 0, fields: [] })
    this.#begin()
  }

  handleReadyForQuery(): void {
    this.#wire?.end(this)
    this.#onEnd()
    this.#statements.forEach(({ resolve }, index) => resolve(this.#results[index]!))
  }

  handleError(error: unknown): void {
    this.#wire?.end(this)
    const prepared = this.#wire?.prepared
    const isStale = error instanceof Error && 'code' in error && STALE.has(String(error.code))
    for (const { name } of this.#statements) if (isStale || !prepared?.get(name)) prepared?.set(name, null)
    this.#onEnd()
    for (const { reject } of this.#statements) reject(error)
  }
}

/** Lends a connection to `PacketClient`; it must not be used otherwise meanwhile. */
export function packetClient(client: ClientBase): PacketClient {
  const wire = wireOf((client as unknown as { readonly connection: WireConnection }).connection)
  let waiting: Statement[] = []
  let isSent = false

  function send(): void {
    if (isSent || waiting.length === 0) return
    const statements = waiting
    waiting = []
    isSent = true
    client.query(
      new Packet(statements, () => {
        isSent = false
        send()
      }),
    )
  }

  function add(statement: Omit<Statement, 'resolve' | 'reject'>): Promise<QueryResult> {
    return new Promise((resolve, reject) => {
      // Once everything that could run has run, so that whoever waits for nothing joins.
      if (waiting.length === 0) process.nextTick(send)
      waiting.push({ ...statement, resolve, reject })
    })
  }

  const query = (config: string | QueryConfig, values?: readonly unknown[]): Promise<QueryResult> => {
    const { name = '', text, values: named } = typeof config === 'string' ? { text: config } : config
    const given = (named as unknown[] | undefined) ?? values ?? []
    const types = wire.prepared.get(name)?.parameters
    return add({ name, text, values: given.map((value, index) => wireValue(value, types?.[index])), copied: null })
  }
  return {
    connection: wire,
    query: query as Queryable['query'],
    async copy({ name, text }, rows) {
      await add({ name, text, values: [], copied: rows })
    },
  }
}

/** A value as it is sent: lists of known types in binary. */
function wireValue(value: unknown, type: number | undefined): WireValue {
  const bytes = type !== undefined && Array.isArray(value) ? arrayBytes(type, value) : null
  return bytes ?? valueText(value)
}

/** A value as PostgreSQL reads it. */
function valueText(value: unknown): WireValue {
  if (value === null || value === undefined) return null
  if (typeof value === 'string' || Buffer.isBuffer(value)) return value
  if (value instanceof Date) return value.toISOString()
  if (Array.isArray(value)) return `{${value.map(elementText).join(',')}}`
  return typeof value === 'bigint' || typeof value === 'number' ? value.toString() : JSON.stringify(value)
}

// Most elements are names: looking is cheaper than replacing nothing.
const PLAIN = /^[^"\\]*$/

function elementText(value: unknown): string {
  const text = valueText(value)
  if (text === null) return 'null'
  if (typeof text !== 'string') throw new TypeError('An array of bytes is not sent.')
  return PLAIN.test(text) ? `"${text}"` : `"${text.replaceAll(/["\\]/g, String.raw`\$&`)}"`
}
