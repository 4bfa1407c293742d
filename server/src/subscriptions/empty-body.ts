import type { MiddlewareHandler } from 'hono'
import type { AppEnv } from '../http/app.ts'

/**
 * Lets a request without a body count as one with an empty object, whatever its content type says: many clients always name
 * JSON, and most changes here need no word.
 */
export const emptyBodyIsEmptyObject: MiddlewareHandler<AppEnv> = async (http, next) => {
  const { method } = http.req
  if (method === 'POST' && (http.req.header('content-type') ?? '').startsWith('application/json')) {
    const text = await http.req.text()
    // The cache holds promises, which its type does not say.
    if (text.trim() === '') Object.assign(http.req.bodyCache, { text: Promise.resolve('{}') })
  }
  await next()
}
