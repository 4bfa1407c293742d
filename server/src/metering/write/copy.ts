import type { CopiedRows, PacketClient } from '../../db/packet.ts'
import { writeText } from '../../db/wire-messages.ts'

type Scalar = string | bigint | boolean | Date | null
export type CopyValue = Scalar | readonly Scalar[]
export type CopyRow = readonly CopyValue[]
type ScalarType = 'text' | 'uuid' | 'bigint' | 'boolean' | 'timestamptz' | 'jsonb'
export type CopyType = ScalarType | `${ScalarType}[]`

/** A table with the columns that are copied into it, in the order of the values. */
export type CopyTarget = { readonly table: string; readonly columns: Readonly<Record<string, CopyType>> }

/**
 * Copies rows into a table, in the binary format: PostgreSQL then parses no dates and no numbers, which saves it 2.5 µs of the
 * 19 µs that a use costs it in a group of 500.
 */
export function copyRows(client: PacketClient, { table, columns }: CopyTarget, rows: readonly CopyRow[]): Promise<void> {
  const names = Object.keys(columns)
  const statement = {
    name: `copy ${names.length} of ${table}`,
    text: `copy ${table} (${names.join(', ')}) from stdin (format binary)`,
  }
  return client.copy(statement, encodeRows(Object.values(columns), rows))
}

// https://www.postgresql.org/docs/current/sql-copy.html, binary format: signature, flags, length of the extension.
const HEADER = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1')
const TRAILER = -1
const NULL_LENGTH = -1
const JSONB_VERSION = 1
const DASH = 0x2d
/** The value of a hexadecimal digit by its code. */
const DIGITS = Uint8Array.from({ length: 128 }, (_, code) => Number.parseInt(String.fromCharCode(code), 16) || 0)
const POSTGRES_EPOCH_MS = 946_684_800_000
// The elements of an array and their types' numbers, which an array names: https://www.postgresql.org/docs/current/catalog-pg-type.html
const ELEMENTS: Readonly<Record<`${ScalarType}[]`, { readonly type: ScalarType; readonly oid: number }>> = {
  'text[]': { type: 'text', oid: 25 },
  'uuid[]': { type: 'uuid', oid: 2950 },
  'bigint[]': { type: 'bigint', oid: 20 },
  'boolean[]': { type: 'boolean', oid: 16 },
  'timestamptz[]': { type: 'timestamptz', oid: 1184 },
  'jsonb[]': { type: 'jsonb', oid: 3802 },
}

function encodeRows(types: readonly CopyType[], rows: readonly CopyRow[]): CopiedRows {
  const writer = new RowWriter(spare.pop() ?? Buffer.allocUnsafe(FIRST_BYTES))
  for (const row of rows) {
    writer.beginRow(types.length)
    for (let index = 0; index < types.length; index += 1) writer.value(types[index]!, row[index]!)
  }
  const message = writer.end()
  return {
    message,
    onSent: () => {
      if (spare.length < MOST_SPARE && writer.bytes.length <= MOST_BYTES) spare.push(writer.bytes)
    },
  }
}

// A buffer for every group would keep the garbage collector busy for a third of this process' time: they are used again.
const FIRST_BYTES = 64 * 1_024
const MOST_BYTES = 1_024 * 1_024
const MOST_SPARE = 8
const spare: Buffer[] = []

/** Writes rows into one buffer, as one message of the protocol; the buffer doubles when it is full. */
class RowWriter {
  bytes: Buffer
  #view: DataView
  #at: number

  constructor(bytes: Buffer) {
    this.bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    // https://www.postgresql.org/docs/current/protocol-message-formats.html, CopyData: 'd', and the length of what follows it.
    bytes[0] = 0x64
    this.#at = 5 + HEADER.copy(bytes, 5)
  }

  beginRow(fields: number): void {
    this.#reserve(2)
    this.#view.setInt16(this.#at, fields)
    this.#at += 2
  }

  value(type: CopyType, value: CopyValue): void {
    if (value === null) {
      this.#reserve(4)
      this.#length(NULL_LENGTH)
    } else if (typeof value === 'bigint') {
      this.#reserve(12)
      this.#length(8)
      this.#view.setBigInt64(this.#at, value)
      this.#at += 8
    } else if (typeof value === 'boolean') {
      this.#reserve(5)
      this.#length(1)
      this.bytes[this.#at++] = value ? 1 : 0
    } else if (typeof value === 'object') {
      if (value instanceof Date) this.#moment(value)
      else this.#array(type as `${ScalarType}[]`, value)
    } else if (type === 'uuid') {
      this.#uuid(value)
    } else {
      this.#text(value, type === 'jsonb')
    }
  }

  end(): Buffer {
    this.#reserve(2)
    this.#view.setInt16(this.#at, TRAILER)
    this.#at += 2
    this.#view.setInt32(1, this.#at - 1)
    return this.bytes.subarray(0, this.#at)
  }

  #length(length: number): void {
    this.#view.setInt32(this.#at, length)
    this.#at += 4
  }

  /** Dimensions, whether there are nulls, type, length, index of the first; then the elements (`array_recv` in PostgreSQL). */
  #array(type: `${ScalarType}[]`, values: readonly Scalar[]): void {
    const element = ELEMENTS[type]
    this.#reserve(24)
    const lengthAt = this.#at
    this.#at += 4
    this.#length(1)
    this.#length(values.includes(null) ? 1 : 0)
    this.#length(element.oid)
    this.#length(values.length)
    this.#length(1)
    for (const value of values) this.value(element.type, value)
    this.#view.setInt32(lengthAt, this.#at - lengthAt - 4)
  }

  /** Microseconds since 2000, as two words: safe integers hold them until the year 2285, and dividing is cheaper than a bigint. */
  #moment(moment: Date): void {
    this.#reserve(12)
    this.#length(8)
    const microseconds = (moment.getTime() - POSTGRES_EPOCH_MS) * 1_000
    const high = Math.floor(microseconds / 2 ** 32)
    this.#view.setInt32(this.#at, high)
    this.#view.setUint32(this.#at + 4, microseconds - high * 2 ** 32)
    this.#at += 8
  }

  /** Byte by byte: through a string without its dashes it takes four times as long. */
  #uuid(text: string): void {
    this.#reserve(20)
    this.#length(16)
    for (let index = 0; index < text.length; index += 2) {
      if (text.charCodeAt(index) === DASH) index += 1
      this.bytes[this.#at++] = (DIGITS[text.charCodeAt(index)]! << 4) | DIGITS[text.charCodeAt(index + 1)]!
    }
  }

  #text(text: string, isJson: boolean): void {
    // Three bytes at most for each unit of UTF-16.
    this.#reserve(5 + text.length * 3)
    const lengthAt = this.#at
    this.#at += 4
    if (isJson) this.bytes[this.#at++] = JSONB_VERSION
    this.#at += writeText(this.bytes, text, this.#at)
    this.#view.setInt32(lengthAt, this.#at - lengthAt - 4)
  }

  #reserve(bytes: number): void {
    if (this.#at + bytes <= this.bytes.length) return
    const larger = Buffer.allocUnsafe(Math.max(this.bytes.length * 2, this.#at + bytes))
    this.bytes.copy(larger, 0, 0, this.#at)
    this.bytes = larger
    this.#view = new DataView(larger.buffer, larger.byteOffset, larger.byteLength)
  }
}
