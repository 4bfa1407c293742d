import { DataFileError, startSandbox, type Sandbox } from '@tollgate/stripe-sandbox'
import type { StripeOptions } from './options.ts'
import { StartError } from './start-error.ts'

export type SandboxSettings = {
  /** 0 takes any free port. */
  readonly port: number
  /** Where its state is kept. */
  readonly file: string
  /** Where it sends events; null when nobody listens, as for `tollgate push`. */
  readonly webhook: { readonly url: string; readonly secret: string } | null
}

/** The sandbox takes any test key. */
const KEY = 'sk_test_tollgate_sandbox'

/**
 * Starts the Stripe sandbox with a webhook endpoint at our server, and answers how to reach it as Stripe.
 * @throws StartError when its port or its file is taken
 */
export async function openSandbox(settings: SandboxSettings): Promise<{ sandbox: Sandbox; stripe: StripeOptions }> {
  const { port, file, webhook } = settings
  const sandbox = await startSandbox({ port, data: file, webhooks: webhook === null ? [] : [webhook] }).catch(
    (error: unknown) => {
      if (error instanceof DataFileError) {
        throw new StartError(`${error.message} Stop that sandbox, or choose another directory with TOLLGATE_DATA_DIR.`, {
          cause: error,
        })
      }
      if (!(error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')) throw error
      throw new StartError(`Port ${port}, where the Stripe sandbox listens, is taken. Set TOLLGATE_SANDBOX_PORT to another.`, {
        cause: error,
      })
    },
  )
  if (webhook !== null) await removeOtherEndpoints(sandbox.url, webhook.url)
  return { sandbox, stripe: { ...stripeAt(sandbox.url), webhookSecrets: webhook === null ? [] : [webhook.secret] } }
}

/** The sandbox at an address, as Stripe. */
export function stripeAt(sandboxUrl: string): StripeOptions {
  const { hostname, port } = new URL(sandboxUrl)
  return {
    secretKey: KEY,
    webhookSecrets: [],
    endpoint: { host: hostname, port: Number(port), protocol: 'http' },
    pushAtStart: true,
  }
}

/** Those of earlier starts on another port: nobody listens there any more. */
async function removeOtherEndpoints(sandboxUrl: string, ours: string): Promise<void> {
  const headers = { authorization: `Bearer ${KEY}` }
  const response = await fetch(`${sandboxUrl}/v1/webhook_endpoints?limit=100`, { headers })
  const { data } = (await response.json()) as { data: { id: string; url: string }[] }
  for (const { id, url } of data) {
    if (url !== ours) await fetch(`${sandboxUrl}/v1/webhook_endpoints/${id}`, { method: 'DELETE', headers })
  }
}
