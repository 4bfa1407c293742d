const CURRENT = '/api/v1/'
const LEGACY = '/api/'

/**
 * The path under which a request is routed: `/api/X` is served as `/api/v1/X` (general rules of the five systems).
 * Given to Hono as `getPath`, so both paths reach one handler at no further cost.
 */
export function routedPath(request: Request): string {
  return routedPathOf(request.url)
}

/** The path of an address as it was asked for. */
export function askedPathOf(url: string): string {
  const start = url.indexOf('/', url.indexOf(':') + 4)
  if (start === -1) return '/'
  const end = url.slice(start).search(/[?#]/)
  return end === -1 ? url.slice(start) : url.slice(start, start + end)
}

/** The path under which it is routed. */
export function routedPathOf(url: string): string {
  const path = askedPathOf(url)
  return path.startsWith(LEGACY) && !path.startsWith(CURRENT) ? CURRENT + path.slice(LEGACY.length) : path
}
