import { z } from 'zod'
import { DomainError } from '../lib/errors.ts'

/** Writes the place after which the next page begins; opaque to whoever passes it back. */
export function writeCursor(place: readonly (string | Date)[]): string {
  return Buffer.from(JSON.stringify(place)).toString('base64url')
}

/**
 * Reads a cursor that was given out.
 * @throws DomainError `invalid_request` for anything else
 */
export function readCursor<Place>(cursor: string | undefined, shape: z.ZodType<Place>): Place | null {
  if (cursor === undefined) return null
  try {
    return shape.parse(JSON.parse(Buffer.from(cursor, 'base64url').toString()))
  } catch {
    throw new DomainError('invalid_request', 'The cursor is none that was given out by this list.', { field: 'cursor' })
  }
}

/** A moment in a cursor. */
export const cursorTime = z.iso.datetime().transform((text) => new Date(text))
