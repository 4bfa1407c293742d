import { z } from '@hono/zod-openapi'
import { CONTROLS } from './storable.ts'

/** What somebody or something is called: one line, which reaches mails' subjects, tables and terminals as it is. */
export const nameText = (longest: number) =>
  z
    .string()
    .trim()
    .min(1)
    .max(longest)
    .refine(
      (text) => text.search(CONTROLS) < 0,
      'a name has no line breaks, control characters, or characters that turn the direction of writing',
    )
