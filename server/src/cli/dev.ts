import type { Config } from '../config.ts'
import { startDevelopment, type Development, type DevelopmentOptions } from '../dev.ts'
import type { Output } from './print.ts'
import { runUntilSignal } from './signals.ts'

/** Starts everything on this machine, says where it is, and runs until Ctrl-C. */
export async function runDevelopment(options: DevelopmentOptions, output: Output): Promise<void> {
  await runUntilSignal(async () => {
    const began = performance.now()
    const development = await startDevelopment(options)
    output.out(describe(development, options.config, (performance.now() - began) / 1_000))
    return () => development.stop()
  }, output)
}

function describe(development: Development, config: Config, seconds: number): string {
  const { url, publicUrl, operatorKey, sandboxUrl, dataDirectory, embedded } = development
  // Clocks are Stripe's, of its test mode.
  const clock = sandboxUrl !== null || config.STRIPE_SECRET_KEY?.includes('_test_') === true ? ', "test_clock": true' : ''
  const lines = [
    '',
    `Tollgate is ready (${seconds.toFixed(1)} s).`,
    '',
    `  server      ${url}   reference: ${publicUrl}/docs`,
    `  stripe      ${stripeInWords(config, sandboxUrl)}`,
    `  postgresql  ${embedded ? `embedded, in ${dataDirectory}` : 'the one of DATABASE_URL'}`,
    `  operator    ${operatorKey}`,
    '',
    'Try:',
    '',
    `  curl ${url}/api/v1/organizations -H 'Authorization: Bearer ${operatorKey}' \\`,
    `    -H 'Content-Type: application/json' -d '{"name": "Acme", "email": "billing@example.com"${clock}}'`,
    '',
    'Ctrl-C stops everything; the data is kept.',
    '',
  ]
  return `${lines.join('\n')}\n`
}

function stripeInWords(config: Config, sandboxUrl: string | null): string {
  if (sandboxUrl !== null) return `${sandboxUrl}   the sandbox; no account, no network`
  return config.STRIPE_ENABLED === 'false'
    ? 'none: STRIPE_ENABLED=false'
    : `Stripe itself (${config.STRIPE_SECRET_KEY?.slice(0, 8)}…)`
}
