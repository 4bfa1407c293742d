import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import type { MiddlewareHandler } from 'hono'
import { DomainError } from '../lib/errors.ts'

const gunzipAsync = promisify(gunzip)

/**
 * Unpacks bodies with `Content-Encoding: gzip`, so that what follows reads them as if they had come plain. A body may have
 * `maxBytes` when it is unpacked; unpacking stops there, however much more the sender packed into it.
 * @throws DomainError `payload_too_large`; `invalid_request` for what is no gzip; `unsupported_media_type` for another encoding
 */
export function inflateBody(maxBytes: number): MiddlewareHandler {
  return async (context, next) => {
    const { raw } = context.req
    const encoding = raw.headers.get('content-encoding')?.trim().toLowerCase() ?? 'identity'
    if (encoding !== 'identity') {
      if (encoding !== 'gzip' && encoding !== 'x-gzip') {
        throw new DomainError('unsupported_media_type', `A body is read plain or packed by gzip, not by "${encoding}".`)
      }
      const body = await inflate(await raw.arrayBuffer(), maxBytes)
      const headers = new Headers(raw.headers)
      headers.delete('content-encoding')
      headers.delete('content-length')
      context.req.raw = new Request(raw.url, { method: raw.method, headers, signal: raw.signal, body })
    }
    await next()
  }
}

async function inflate(packed: ArrayBuffer, maxBytes: number): Promise<Blob> {
  try {
    const plain = await gunzipAsync(packed, { maxOutputLength: maxBytes })
    return new Blob([new Uint8Array(plain)])
  } catch (error) {
    if (error instanceof RangeError || (error instanceof Error && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE')) {
      throw new DomainError(
        'payload_too_large',
        `A request has at most ${maxBytes} bytes when it is unpacked.`,
        {},
        { cause: error },
      )
    }
    throw new DomainError(
      'invalid_request',
      'The body is not whole gzip, though its content-encoding says so.',
      {},
      { cause: error },
    )
  }
}
