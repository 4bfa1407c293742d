import { z } from '@hono/zod-openapi'

const entry = {
  id: z.string(),
  organization_id: z.string().nullable(),
  actor: z.string().meta({ description: 'Who did it: `operator:<name>`, `api_key:<id>`, `user:<id>` or `system:<part>`.' }),
  action: z.string().meta({ example: 'api_key.revoked' }),
  target: z.string(),
  before: z.unknown(),
  after: z.unknown(),
  request_id: z.string().nullable(),
  at: z.iso.datetime(),
  position: z.number().int().nullable().meta({ description: 'Its place in the chain of its organization, from 1.' }),
  hash: z.string().nullable().meta({ description: 'SHA-256, in hexadecimal digits.' }),
}

export const entrySchema = z.object(entry).openapi('AuditEntry')

export const chainedEntrySchema = z
  .object({
    ...entry,
    previous_hash: z.string().nullable().meta({ description: 'Of the entry before it in its chain; zeros for the first.' }),
    content: z.string().meta({ description: 'What the hash is over, after the bytes of previous_hash.' }),
  })
  .openapi('ChainedAuditEntry')

export type EntryBody = z.infer<typeof entrySchema>
export type ChainedEntryBody = z.infer<typeof chainedEntrySchema>
