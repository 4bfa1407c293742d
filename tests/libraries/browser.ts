/** What a browser shows: the last page of a chain of redirects. */
export interface View {
  readonly url: string
  readonly status: number
  readonly html: string
}

/** A person with a browser that keeps cookies and runs no scripts. Addresses outside of the loopback are reached, but not loaded. */
export class Browser {
  private readonly cookies = new Map<string, Map<string, string>>()

  /** Opens an address and follows where it leads. */
  open(url: string): Promise<View> {
    return this.go(url, { method: 'GET' })
  }

  /** Calls an application from one of its own pages; answers the JSON. */
  async call(url: string, body?: unknown): Promise<{ status: number; body: Record<string, unknown> }> {
    const init =
      body === undefined
        ? { method: 'GET' }
        : { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }
    const response = await this.send(url, init)
    const answer: unknown = await response.json()
    return { status: response.status, body: answer as Record<string, unknown> }
  }

  /** Fills in the form of a page and sends it, with its hidden fields; follows where that leads. */
  async submit(view: View, fields: Readonly<Record<string, string>> = {}): Promise<View> {
    const form = /<form[^>]*method="post"[^>]*>[\s\S]*?<\/form>/i.exec(view.html)?.[0]
    if (form === undefined) throw new Error(`There is no form on ${view.url}: ${view.html}`)
    const action = /action="([^"]*)"/i.exec(form)?.[1] ?? view.url
    const values = new URLSearchParams(fields)
    for (const [, name = '', value = ''] of form.matchAll(/<input[^>]*type="hidden"[^>]*name="([^"]*)"[^>]*value="([^"]*)"/gi)) {
      if (!values.has(name)) values.set(name, value)
    }
    return this.go(new URL(action, view.url).href, { method: 'POST', body: values })
  }

  private async go(url: string, init: RequestInit): Promise<View> {
    const address = new URL(url)
    if (address.hostname !== '127.0.0.1') return { url, status: 0, html: '' }
    const response = await this.send(url, init)
    const location = response.headers.get('location')
    if (location !== null) return this.go(new URL(location, url).href, { method: 'GET' })
    return { url, status: response.status, html: await response.text() }
  }

  private async send(url: string, init: RequestInit): Promise<Response> {
    const { origin } = new URL(url)
    const jar = this.cookies.get(origin) ?? new Map<string, string>()
    this.cookies.set(origin, jar)
    const headers = new Headers(init.headers)
    headers.set('origin', origin)
    headers.set('cookie', [...jar].map(([name, value]) => `${name}=${value}`).join('; '))
    const response = await fetch(url, { ...init, headers, redirect: 'manual' })
    for (const cookie of response.headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(cookie) ?? []
      jar.set(name, value)
    }
    return response
  }
}
