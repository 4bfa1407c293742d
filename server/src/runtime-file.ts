import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { parseJson } from './lib/json.ts'

/** What a running development server leaves in its data directory for the CLI (mode 0600). */
const runtimeSchema = z.object({
  url: z.url(),
  operatorKey: z.string(),
  /** Where the Stripe sandbox is; null while Stripe itself is used. */
  sandboxUrl: z.url().nullable(),
  pid: z.number().int(),
})

export type Runtime = z.infer<typeof runtimeSchema>

export const RUNTIME_FILE = 'runtime.json'

/** What runs in this data directory; null when nothing does, when what ran there was killed, or what it left cannot be read. */
export function readRuntime(dataDir: string): Runtime | null {
  const path = join(dataDir, RUNTIME_FILE)
  if (!existsSync(path)) return null
  const parsed = runtimeSchema.safeParse(parseJson(readFileSync(path, 'utf8')))
  return parsed.success && isAlive(parsed.data.pid) ? parsed.data : null
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    // EPERM: it is there, and somebody else's.
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}
