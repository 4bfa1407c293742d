import type { Ctx } from '../engine/context.ts'
import type { FormObject } from './form.ts'

/** A request of a browser (or a tool) to something that is not the Stripe API. */
export interface PageRequest {
  readonly method: string
  readonly path: Readonly<Record<string, string>>
  readonly url: URL
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  /** The decoded form body; empty for other bodies. */
  readonly form: FormObject
  /** The raw body. */
  readonly body: string
  /** Runs a transaction. A thrown error undoes it, as in an operation. */
  transact<T>(work: (ctx: Ctx) => T): T
}

/** What a page answers. Text is sent as HTML unless a `content-type` is given. */
export interface PageResponse {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string | Uint8Array
}

/** A page: `{ on: 'GET /pay/{session}', handle }`. Needs no key: who knows the address may use it, as with Stripe's hosted pages. */
export interface PageRoute<Key extends string = string> {
  readonly on: Key
  readonly handle: (request: PageRequest) => PageResponse | Promise<PageResponse>
}

/** Declares a page. */
export function page(on: `${'GET' | 'POST' | 'DELETE'} /${string}`, handle: PageRoute['handle']): PageRoute {
  return { on, handle }
}

/** 303 to another address: after a form was handled. */
export function redirect(location: string): PageResponse {
  return { status: 303, headers: { location } }
}

/** False for a request that a page of another site makes the browser send: the sandbox asks for no key, so nobody else may steer it. */
export function isOwnRequest(request: PageRequest): boolean {
  const { host, origin } = request.headers
  const site = request.headers['sec-fetch-site'] ?? 'none'
  if (typeof origin !== 'string') return site === 'same-origin' || site === 'none'
  return URL.canParse(origin) && new URL(origin).host === host
}
