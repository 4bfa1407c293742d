import { z } from '@hono/zod-openapi'
import { CONTROLS } from '../lib/storable.ts'

/** An answer in JSON, as a route declares it. */
export const json = <Schema extends z.ZodType>(description: string, schema: Schema) => ({
  description,
  content: { 'application/json': { schema } },
})

/** A body in JSON without which a route cannot be asked. */
export const body = <Schema extends z.ZodType>(schema: Schema) => ({
  required: true,
  content: { 'application/json': { schema } },
})

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
