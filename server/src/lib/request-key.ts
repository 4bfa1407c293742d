import { z } from '@hono/zod-openapi'

/**
 * The header Idempotency-Key, as a route declares it: 1 to 255 characters, or none.
 * @param description what a repeat under it gets
 */
export const requestKeyHeader = (description: string) =>
  z.object({ 'idempotency-key': z.string().min(1).max(255).optional().meta({ description }) })
