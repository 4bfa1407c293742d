import { expect } from 'vitest'

export type Answer<Body = Record<string, unknown>> = { readonly status: number; readonly headers: Headers; readonly body: Body }

/** An invoice as its organization reads it. */
export type InvoiceRead = Readonly<Record<string, unknown>> & {
  readonly id: string
  readonly status: string
  readonly amount_due_minor: number
  readonly amount_paid_minor: number
}

/** What organizations and operators ask of billing over HTTP. */
export type BillingRequests = {
  /**
   * A call of a route by `operator`, `nobody`, an organization's id (its admin key), or `id:read` for a key with fewer scopes.
   */
  readonly call: (
    caller: string,
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ) => Promise<Answer>
  /** A GET by one of them, for answers that are no JSON. */
  readonly fetch: (caller: string, path: string) => Promise<Response>
  /** A POST of an organization to a route below `/api/v1/billing/`. */
  readonly post: (id: string, path: string, body?: object, headers?: Record<string, string>) => Promise<Answer>
  /** One that has to be answered with 200; answers the body. */
  readonly succeed: <Body extends object = Answer['body']>(id: string, path: string, body?: object) => Promise<Body>
  readonly subscriptionOf: (id: string) => Promise<Answer['body']>
  /** Newest first; `query` e.g. `?status=open`. */
  readonly invoicesOf: (id: string, query?: string) => Promise<readonly InvoiceRead[]>
}

const BILLING = '/api/v1/billing'

export function billingRequests(request: (path: string, init: RequestInit) => Promise<Response>): BillingRequests {
  const call: BillingRequests['call'] = async (caller, method, path, body, headers = {}) => {
    const response = await request(path, {
      method,
      headers: { 'x-caller': caller, 'content-type': 'application/json', ...headers },
      body: body === undefined ? null : JSON.stringify(body),
    })
    const text = await response.text()
    return { status: response.status, headers: response.headers, body: text === '' ? {} : (JSON.parse(text) as Answer['body']) }
  }
  const post: BillingRequests['post'] = (id, path, body, headers) => call(id, 'POST', `${BILLING}/${path}`, body, headers)
  return {
    call,
    fetch: (caller, path) => request(path, { headers: { 'x-caller': caller } }),
    post,
    async succeed<Body extends object>(id: string, path: string, body?: object) {
      const answer = await post(id, path, body)
      expect(answer.status, JSON.stringify(answer.body)).toBe(200)
      return answer.body as Body
    },
    subscriptionOf: async (id) => (await call(id, 'GET', `${BILLING}/subscription`)).body,
    invoicesOf: async (id, query = '') =>
      (await call(id, 'GET', `${BILLING}/invoices${query}`)).body as unknown as readonly InvoiceRead[],
  }
}
