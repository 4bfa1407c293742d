import type { Principal } from '../auth/principal.ts'

/** What every handler finds in its context. */
export type AppEnv = { Variables: { requestId: string; principal: Principal | null } }
