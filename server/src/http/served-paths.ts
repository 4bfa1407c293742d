import { routedPathOf } from './legacy-path.ts'

/** The two groups that a host mounts, each with one call (CB-1). */
export type RouteGroup = 'auth' | 'billing'

/** What a host hands over. Its documentation, health and metrics are its own. */
const MOUNTED = /^\/(api|billing|account)(\/|$)/
/** What belongs to people and organizations; everything else is billing. */
const AUTH = /^(\/api\/v1\/(auth|organizations|users)(\/|$)|\/account(\/|$))/
/** Under it are better-auth's routes too, which no list has. */
const OPEN_PREFIX = '/api/v1/auth/'

/**
 * Tells of an address to which group it belongs, null for one that is the host's. `paths` are those of the routes, with
 * parameters as `{id}` or `:id`. Exact, so that a host keeps its own routes beside ours under `/api/v1`.
 */
export function createPathGroups(paths: readonly string[]): (url: string) => RouteGroup | null {
  const mounted = paths.filter((path) => MOUNTED.test(path))
  const fixed = new Set(mounted.filter((path) => !/[{:]/.test(path)))
  const patterns = mounted
    .filter((path) => /[{:]/.test(path))
    .map((path) => new RegExp(`^${path.replace(/[.]/g, '\\.').replace(/\{\w+\}|:\w+/g, '[^/]+')}$`))
  return (url) => {
    const path = routedPathOf(url.startsWith('/') ? `http://host${url}` : url)
    const isOurs = path.startsWith(OPEN_PREFIX) || fixed.has(path) || patterns.some((pattern) => pattern.test(path))
    if (!isOurs) return null
    return AUTH.test(path) ? 'auth' : 'billing'
  }
}
