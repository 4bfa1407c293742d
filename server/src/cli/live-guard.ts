import type { Config } from '../config.ts'
import { CliError } from './connection.ts'

/**
 * Keeps a command from touching a live Stripe account by accident: it goes on only where that is said, by `--live` or by
 * STRIPE_ENVIRONMENT=live. Test keys and the sandbox need nothing.
 * @throws CliError
 */
export function guardLive(config: Pick<Config, 'STRIPE_SECRET_KEY' | 'STRIPE_ENVIRONMENT'>, { live }: { live: boolean }): void {
  const isLive = config.STRIPE_SECRET_KEY?.includes('_live_') === true
  if (!isLive || live || config.STRIPE_ENVIRONMENT === 'live') return
  throw new CliError('STRIPE_SECRET_KEY is a live key: add --live, or set STRIPE_ENVIRONMENT=live, if that is what you mean.')
}
