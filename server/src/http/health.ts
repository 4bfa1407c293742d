import type { App } from './app.ts'

/** One thing that has to be there. Answers a word on how it is; rejects when it is not. */
export type ReadinessCheck = { readonly name: string; readonly check: () => Promise<string> }

export type Readiness = { readonly ready: boolean; readonly checks: Readonly<Record<string, { ok: boolean; detail: string }>> }

const CHECK_TIMEOUT_MS = 2_000

/** Asks everything at once; a check that does not answer in two seconds has failed. */
export async function readReadiness(checks: readonly ReadinessCheck[]): Promise<Readiness> {
  const results = await Promise.all(checks.map(async ({ name, check }) => [name, await settle(check)] as const))
  return { ready: results.every(([, { ok }]) => ok), checks: Object.fromEntries(results) }
}

async function settle(check: () => Promise<string>): Promise<{ ok: boolean; detail: string }> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error('no answer')), CHECK_TIMEOUT_MS)
  })
  try {
    return { ok: true, detail: await Promise.race([check(), late]) }
  } catch {
    // Why it failed is in the log; this route asks nobody who they are.
    return { ok: false, detail: 'away' }
  } finally {
    clearTimeout(timer)
  }
}

/**
 * `GET /healthz`: the process answers. `GET /readyz`: what it needs answers too; 503 with Retry-After while it does not,
 * and while it stops.
 */
export function registerHealthRoutes(app: App, checks: readonly ReadinessCheck[], isStopping: () => boolean): void {
  app.get('/healthz', (c) => c.json({ status: 'ok' }))
  app.get('/readyz', async (c) => {
    const readiness = await readReadiness(checks)
    const status = isStopping() ? 'stopping' : readiness.ready ? 'ready' : 'not_ready'
    const body = { status, checks: readiness.checks }
    return status === 'ready' ? c.json(body) : c.json(body, 503, { 'retry-after': '1' })
  })
}
