const CURRENT = '/api/v1/'
const LEGACY = '/api/'

/**
 * The path under which a request is routed: `/api/X` is served as `/api/v1/X` (general rules of the five systems).
 * Given to Hono as `getPath`, so both paths reach one handler at no further cost.
 */
export function routedPath(request: Request): string {
  return routedPathOf(request.url)
}

/** The same for an address. */
export function routedPathOf(url: string): string {
  const start = url.indexOf('/', url.indexOf(':') + 4)
  if (start === -1) return '/'
  const end = url.slice(start).search(/[?#]/)
  const path = end === -1 ? url.slice(start) : url.slice(start, start + end)
  return path.startsWith(LEGACY) && !path.startsWith(CURRENT) ? CURRENT + path.slice(LEGACY.length) : path
}
