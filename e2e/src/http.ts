/** An answer as the loop looks at it. */
export type Answer = { readonly status: number; readonly headers: Headers; readonly body: Body }

/** A JSON body; the loop reads fields of it by name. */
export type Body = Readonly<Record<string, unknown>>

export type Caller = {
  get(path: string): Promise<Answer>
  post(path: string, body?: unknown): Promise<Answer>
  delete(path: string): Promise<Answer>
  /** What a file holds. */
  text(path: string): Promise<string>
}

/** Calls a server with one key. */
export function createCaller(url: string, key: string): Caller {
  async function call(method: string, path: string, body?: unknown): Promise<Answer> {
    const response = await fetch(url + path, {
      method,
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: body === undefined ? null : JSON.stringify(body),
    })
    const text = await response.text()
    return { status: response.status, headers: response.headers, body: text === '' ? {} : (JSON.parse(text) as Body) }
  }
  return {
    get: (path) => call('GET', path),
    post: (path, body = {}) => call('POST', path, body),
    delete: (path) => call('DELETE', path),
    async text(path) {
      const response = await fetch(url + path, { headers: { authorization: `Bearer ${key}` } })
      if (!response.ok) throw new Error(`${path} answered ${response.status}.`)
      return response.text()
    },
  }
}

/** Fills in the hosted checkout page as a person without JavaScript would, and answers where it sends the browser. */
export async function payOnPage(
  pageUrl: string,
  fields: Readonly<Record<string, string>>,
): Promise<{ status: number; location: string | null; html: string }> {
  const page = await fetch(pageUrl)
  const html = await page.text()
  if (!page.ok) throw new Error(`The page at ${pageUrl} answered ${page.status}.`)
  const form = /<form[^>]*method="post"[^>]*>[\s\S]*?<\/form>/i.exec(html)?.[0] ?? ''
  const action = /action="([^"]*)"/i.exec(form)?.[1] ?? pageUrl
  const values = new URLSearchParams(fields)
  for (const [, name, value] of form.matchAll(/<input[^>]*type="hidden"[^>]*name="([^"]*)"[^>]*value="([^"]*)"/gi)) {
    if (name !== undefined && !values.has(name)) values.set(name, value ?? '')
  }
  const posted = await fetch(new URL(action, pageUrl), { method: 'POST', body: values, redirect: 'manual' })
  return { status: posted.status, location: posted.headers.get('location'), html: await posted.text() }
}
