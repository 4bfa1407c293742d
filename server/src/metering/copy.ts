import pg, { type ClientBase, type Connection } from 'pg'

export type CopyValue = string | bigint | boolean | Date | null
export type CopyRow = readonly CopyValue[]

// What `pg` gives a query that copies in; its types leave these out.
type CopyConnection = Connection & { sendCopyFromChunk(chunk: Buffer): void; endCopyFrom(): void }

/**
 * `copy … from stdin` in one go: the statement and all of its rows are sent at once, without waiting for the server's leave,
 * so that it stands in a pipeline like any other statement. If the statement fails, the server drops the rows by itself
 * (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-COPY).
 */
class CopyIn extends pg.Query {
  constructor(statement: string, rows: string, done: (error: Error | undefined) => void) {
    super({ text: statement }, undefined, done)
    this.submit = (connection) => {
      connection.query(statement)
      const copying = connection as CopyConnection
      copying.sendCopyFromChunk(Buffer.from(rows))
      copying.endCopyFrom()
    }
  }

  /** The rows are on their way already. */
  handleCopyInResponse(): void {}
}

/** Copies rows into `target`: a table with its columns, in the order of the values. */
export function copyRows(client: ClientBase, target: string, rows: readonly CopyRow[]): Promise<void> {
  const text = copyText(rows)
  return new Promise((resolve, reject) => {
    client.query(new CopyIn(`copy ${target} from stdin`, text, (error) => (error ? reject(error) : resolve())))
  })
}

function copyText(rows: readonly CopyRow[]): string {
  // The same few moments stand in every row of a group, and writing one out takes 0.4 µs.
  const moments = new Map<Date, string>()
  let text = ''
  for (const row of rows) {
    let separator = ''
    for (const value of row) {
      text += separator + (value instanceof Date ? momentText(value, moments) : valueText(value))
      separator = '\t'
    }
    text += '\n'
  }
  return text
}

function momentText(moment: Date, known: Map<Date, string>): string {
  let text = known.get(moment)
  if (text === undefined) {
    text = moment.toISOString()
    known.set(moment, text)
  }
  return text
}

// https://www.postgresql.org/docs/current/sql-copy.html, text format: what has a meaning of its own is escaped.
const SPECIAL = /[\\\n\r\t]/
const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' }

function valueText(value: Exclude<CopyValue, Date>): string {
  if (value === null) return '\\N'
  if (typeof value === 'string') {
    return SPECIAL.test(value) ? value.replaceAll(/[\\\n\r\t]/g, (character) => ESCAPES[character]!) : value
  }
  if (typeof value === 'boolean') return value ? 't' : 'f'
  return value.toString()
}
