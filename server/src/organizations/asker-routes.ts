import type { Context } from 'hono'
import { actorOf, type Principal } from '../auth/principal.ts'
import type { AppEnv } from '../http/app-env.ts'
import type { Asker } from './actions.ts'

/** Who asks, as the audit log names them. */
export function asker(c: Context<AppEnv>, principal: Principal): Asker {
  return { actor: actorOf(principal), requestId: c.get('requestId') }
}
