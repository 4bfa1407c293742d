import pg, { type ClientBase, type QueryConfig, type QueryResult } from 'pg'
import type { Queryable } from './database.ts'

/** A statement on its way: a named one is prepared once per connection. */
type Statement = {
  readonly name: string
  readonly text: string
  readonly values: readonly (string | Buffer | null)[]
  /** What `copy … from stdin` reads. */
  readonly copied: CopiedRows | null
  readonly resolve: (result: QueryResult) => void
  readonly reject: (error: unknown) => void
}

/** What runs statements in packets: those that are asked for in one turn travel together. */
export type PacketClient = Queryable & {
  /** `copy … from stdin`, with its rows in the format that the statement names. */
  copy(statement: { readonly name: string; readonly text: string }, rows: CopiedRows): Promise<void>
}

/** Rows to be copied, as a message of the protocol. */
export type CopiedRows = {
  readonly message: Buffer
  /** Called when the message has left this process. */
  readonly onSent: () => void
}

type Field = { readonly name: string; readonly read: (text: string) => unknown }
export type TypeParserOf = (dataTypeId: number) => (text: string) => unknown

// What `pg` gives a query that it hands messages to; its types say otherwise, or leave it out.
type WireConnection = {
  readonly stream: { cork(): void; uncork(): void; write(bytes: Buffer, onSent: () => void): void }
  parse(message: { readonly name: string; readonly text: string }): void
  bind(message: { readonly statement: string; readonly values: readonly (string | Buffer | null)[] }): void
  close(message: { readonly type: 'S'; readonly name: string }): void
  describe(message: { readonly type: 'P' }): void
  execute(message: null): void
  endCopyFrom(): void
  sync(): void
}
type RowDescription = { readonly fields: readonly { readonly name: string; readonly dataTypeID: number }[] }

/** The fields of the named statements that a connection has prepared; null after a failure that leaves it open whether it has. */
type Prepared = Map<string, readonly Field[] | null>

const preparedOn = new WeakMap<WireConnection, Prepared>()

/**
 * Statements that travel as one packet with one Sync behind them: PostgreSQL wakes up once, answers once, and this process reads
 * once; what the fields of a named statement are is asked once. Each with its own Sync, as `pg` pipelines them, a use at 64
 * connections cost PostgreSQL 42 µs, now 34 (docs/decisions/0035-one-packet-each-way.md).
 *
 * If one fails, PostgreSQL skips the others and all of them are rejected with its error
 * (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING).
 */
class Packet extends pg.Query {
  readonly #statements: readonly Statement[]
  readonly #parserOf: TypeParserOf
  readonly #results: QueryResult[] = []
  #prepared: Prepared = new Map()
  #fields: readonly Field[] = []
  #rows: unknown[] = []

  readonly #onEnd: () => void

  constructor(statements: readonly Statement[], parserOf: TypeParserOf, onEnd: () => void) {
    super({ text: '' })
    this.#onEnd = onEnd
    this.#statements = statements
    this.#parserOf = parserOf
    this.submit = (connection) => this.#send(connection as unknown as WireConnection)
  }

  #send(connection: WireConnection): void {
    this.#prepared = preparedOn.get(connection) ?? this.#prepared
    preparedOn.set(connection, this.#prepared)
    const parsed = new Set<string>()
    connection.stream.cork()
    try {
      for (const { name, text, values, copied } of this.#statements) {
        const fields = name === '' ? undefined : this.#prepared.get(name)
        // The same statement may be asked for several times in one packet: it is prepared once.
        const isParsed = Boolean(fields) || parsed.has(name)
        if (fields === null && !isParsed) connection.close({ type: 'S', name })
        if (!isParsed) connection.parse({ name, text })
        if (name !== '') parsed.add(name)
        connection.bind({ statement: name, values })
        if (!fields) connection.describe({ type: 'P' })
        connection.execute(null)
        if (copied === null) continue
        // Sent without waiting for the server's leave; should the statement fail, the server drops the rows by itself.
        connection.stream.write(copied.message, copied.onSent)
        connection.endCopyFrom()
      }
      connection.sync()
    } finally {
      connection.stream.uncork()
    }
    this.#begin()
  }

  get #current(): Statement | undefined {
    return this.#statements[this.#results.length]
  }

  #begin(): void {
    this.#fields = this.#prepared.get(this.#current?.name ?? '') ?? []
    this.#rows = []
  }

  handleRowDescription({ fields }: RowDescription): void {
    this.#fields = fields.map(({ name, dataTypeID }) => ({ name, read: this.#parserOf(dataTypeID) }))
  }

  handleDataRow({ fields: texts }: { readonly fields: readonly (string | null)[] }): void {
    const row: Record<string, unknown> = {}
    for (let index = 0; index < texts.length; index += 1) {
      const text = texts[index]!
      const { name, read } = this.#fields[index]!
      row[name] = text === null ? null : read(text)
    }
    this.#rows.push(row)
  }

  handleCommandComplete({ text }: { readonly text: string }): void {
    const { name } = this.#current!
    if (name !== '') this.#prepared.set(name, this.#fields)
    const [command = '', ...numbers] = text.split(' ')
    const rowCount = numbers.length === 0 ? null : Number(numbers.at(-1))
    this.#results.push({ command, rowCount, rows: this.#rows as never[], oid: 0, fields: [] })
    this.#begin()
  }

  /** The rows are on their way already. */
  handleCopyInResponse(): void {}

  handleReadyForQuery(): void {
    this.#onEnd()
    this.#statements.forEach(({ resolve }, index) => resolve(this.#results[index]!))
  }

  handleError(error: unknown): void {
    for (const { name } of this.#statements) if (!this.#prepared.get(name)) this.#prepared.set(name, null)
    this.#onEnd()
    for (const { reject } of this.#statements) reject(error)
  }
}

/** Lends a connection to `PacketClient`; it must not be used otherwise meanwhile. */
export function packetClient(client: ClientBase, parserOf: TypeParserOf): PacketClient {
  let waiting: Statement[] = []
  let isSent = false

  function send(): void {
    if (isSent || waiting.length === 0) return
    const statements = waiting
    waiting = []
    isSent = true
    client.query(
      new Packet(statements, parserOf, () => {
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
    return add({ name, text, values: ((named as unknown[] | undefined) ?? values ?? []).map(valueText), copied: null })
  }
  return {
    query: query as Queryable['query'],
    async copy({ name, text }, rows) {
      await add({ name, text, values: [], copied: rows })
    },
  }
}

/** A value as PostgreSQL reads it. */
function valueText(value: unknown): string | Buffer | null {
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
