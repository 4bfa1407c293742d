/** What a statement is given: text, bytes, or nothing. */
export type WireValue = string | Buffer | null

export const TEXT_FORMAT = 0
export const BINARY_FORMAT = 1
export type Format = typeof TEXT_FORMAT | typeof BINARY_FORMAT

const NULL_LENGTH = -1
// Calling into the runtime costs more than writing a short name byte by byte.
const SHORT = 48
const FIRST_BYTES = 64 * 1_024
const MOST_BYTES = 1_024 * 1_024
const MOST_SPARE = 8
// A buffer for every packet would keep the garbage collector busy: they are used again.
const spare: Buffer[] = []

/**
 * Writes the messages of a packet into one buffer, which is one write to the socket.
 * https://www.postgresql.org/docs/current/protocol-message-formats.html
 */
export class MessageWriter {
  #bytes = spare.pop() ?? Buffer.allocUnsafe(FIRST_BYTES)
  #at = 0
  #messageAt = 0

  parse(name: string, text: string): void {
    this.#begin('P')
    this.#cString(name)
    this.#cString(text)
    // The types of the parameters are PostgreSQL's to find.
    this.#int16(0)
    this.#end()
  }

  /** @param formats those of the result's columns; all are text when there are none */
  bind(statement: string, values: readonly WireValue[], formats: readonly Format[]): void {
    this.#begin('B')
    this.#cString('')
    this.#cString(statement)
    this.#int16(values.length)
    for (const value of values) this.#int16(Buffer.isBuffer(value) ? BINARY_FORMAT : TEXT_FORMAT)
    this.#int16(values.length)
    for (const value of values) this.#value(value)
    this.#int16(formats.length)
    for (const format of formats) this.#int16(format)
    this.#end()
  }

  /** Asks for the types of a statement's parameters and for the columns of its result. */
  describe(statement: string): void {
    this.#begin('D')
    this.#byte('S')
    this.#cString(statement)
    this.#end()
  }

  execute(): void {
    this.#begin('E')
    this.#cString('')
    this.#int32(0)
    this.#end()
  }

  close(statement: string): void {
    this.#begin('C')
    this.#byte('S')
    this.#cString(statement)
    this.#end()
  }

  /** A message that was made elsewhere. */
  whole(message: Buffer): void {
    this.#reserve(message.length)
    this.#at += message.copy(this.#bytes, this.#at)
  }

  copyDone(): void {
    this.#begin('c')
    this.#end()
  }

  sync(): void {
    this.#begin('S')
    this.#end()
  }

  /** The messages, and what is to be called when they have left this process. */
  finish(): { readonly bytes: Buffer; readonly onSent: () => void } {
    const bytes = this.#bytes
    return {
      bytes: bytes.subarray(0, this.#at),
      onSent: () => {
        if (spare.length < MOST_SPARE && bytes.length <= MOST_BYTES) spare.push(bytes)
      },
    }
  }

  #begin(code: string): void {
    this.#byte(code)
    this.#messageAt = this.#at
    this.#int32(0)
  }

  #end(): void {
    this.#bytes.writeInt32BE(this.#at - this.#messageAt, this.#messageAt)
  }

  #byte(character: string): void {
    this.#reserve(1)
    this.#bytes[this.#at++] = character.charCodeAt(0)
  }

  #int16(value: number): void {
    this.#reserve(2)
    this.#at = this.#bytes.writeInt16BE(value, this.#at)
  }

  #int32(value: number): void {
    this.#reserve(4)
    this.#at = this.#bytes.writeInt32BE(value, this.#at)
  }

  #cString(text: string): void {
    this.#text(text)
    this.#byte('\0')
  }

  #value(value: WireValue): void {
    if (value === null) {
      this.#int32(NULL_LENGTH)
      return
    }
    const lengthAt = this.#at
    this.#int32(0)
    if (typeof value === 'string') this.#text(value)
    else this.whole(value)
    this.#bytes.writeInt32BE(this.#at - lengthAt - 4, lengthAt)
  }

  #text(text: string): void {
    // Three bytes at most for each unit of UTF-16.
    this.#reserve(text.length * 3)
    this.#at += writeText(this.#bytes, text, this.#at)
  }

  #reserve(length: number): void {
    if (this.#at + length <= this.#bytes.length) return
    const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#at + length))
    this.#bytes.copy(larger, 0, 0, this.#at)
    this.#bytes = larger
  }
}

/** Writes text as UTF-8, for which there is room; answers how many bytes it took. */
export function writeText(bytes: Buffer, text: string, at: number): number {
  if (text.length > SHORT) return bytes.write(text, at)
  for (let index = 0; index < text.length; index += 1) {
    const code = text.charCodeAt(index)
    if (code > 0x7f) return bytes.write(text, at)
    bytes[at + index] = code
  }
  return text.length
}
