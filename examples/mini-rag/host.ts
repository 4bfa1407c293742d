import { createTollgateClient, type UsageClient } from '@tollgate/sdk'
import { meterRoute, requireStanding } from '@tollgate/sdk/hono'
import { Hono, type Context } from 'hono'
import { HTTPException } from 'hono/http-exception'
import { PATHS } from './openapi.ts'
import { SourceIndex } from './sources.ts'

/** What the host needs of Tollgate: its web-standard handler, in this process; the connection says whom the request is from. */
type Tollgate = { readonly fetch: (request: Request, connection?: unknown) => Response | Promise<Response> }

type Env = { Variables: { workspaceId: string; user?: string } }

/**
 * A service that answers questions from documents (MR-7 to MR-10). Asking is metered; ingesting is only for those who try or pay
 * (MR-13), and is metered too. A workspace is the caller's organization; everything else is Tollgate's.
 * @param operatorKey counts for any workspace; the one that the server was started with
 */
export function createHost(tollgate: Tollgate, { operatorKey }: { readonly operatorKey: string }): Hono<Env> {
  const index = new SourceIndex()
  const app = new Hono<Env>()

  /** The caller's own credentials act for the caller's organization, without leaving the process. */
  const client = (context: Context): UsageClient =>
    createTollgateClient({
      url: new URL(context.req.url).origin,
      apiKey: '',
      fetch: async (request) => tollgate.fetch(new Request(request, { headers: credentialsOf(context, request.headers) })),
    })

  /** The host counts by its own key, for the caller's workspace: who may only read may ask too (MR-7), and asking is counted. */
  const counter = (context: Context<Env>): UsageClient =>
    createTollgateClient({
      url: new URL(context.req.url).origin,
      apiKey: operatorKey,
      fetch: async (request) => {
        const headers = new Headers(request.headers)
        headers.set('x-organization-id', context.get('workspaceId'))
        return tollgate.fetch(new Request(request, { headers }))
      },
    })

  /** Whose documents: the organization of the caller, whom Tollgate knows; and whether they may do this at all. */
  const workspace = (scope: 'read' | 'write') => async (context: Context<Env>, next: () => Promise<void>) => {
    const url = new URL('/api/v1/auth/me', context.req.url)
    const answer = await tollgate.fetch(new Request(url, { headers: credentialsOf(context) }))
    if (!answer.ok) throw new HTTPException(401, { res: answer })
    const me = (await answer.json()) as {
      organization_id: string | null
      scopes: readonly string[]
      user: { email: string } | null
    }
    if (me.organization_id === null || !(me.scopes.includes(scope) || me.scopes.includes('admin'))) {
      throw refuse(403, `This needs the scope "${scope}" in an organization.`)
    }
    context.set('workspaceId', me.organization_id)
    if (me.user !== null) context.set('user', me.user.email)
    await next()
  }

  const gate = requireStanding({
    client,
    call: (context: Context<Env>) => {
      const user = context.get('user')
      return { activity: 'ingestion', workspaceId: context.get('workspaceId'), ...(user === undefined ? {} : { user }) }
    },
  })
  const asks = [workspace('read'), meterRoute({ client: counter, meter: 'question' })] as const

  app.on('POST', ['/api/v1/ask', '/api/ask'], ...asks, async (context) => {
    const question = await readText(context, 'question')
    return context.json(index.ask(context.get('workspaceId'), question))
  })

  app.on('POST', ['/api/v1/ingest/urls', '/api/ingest/urls', '/api/ingest_urls'], workspace('write'), gate, async (context) => {
    const urls = await readTexts(context, 'urls')
    return ingest(
      context,
      urls.map((url) => ({ name: url, text: `The page at ${url}.` })),
    )
  })

  app.on(
    'POST',
    ['/api/v1/ingest/files', '/api/ingest/files', '/api/ingest_files'],
    workspace('write'),
    gate,
    async (context) => {
      const body = await context.req.parseBody({ all: true })
      const files = [body['files'] ?? body['file'] ?? []].flat().filter((file) => file instanceof File)
      if (files.length === 0) throw refuse(400, 'The body is to be a form with the file "files".')
      return ingest(context, await Promise.all(files.map(async (file) => ({ name: file.name, text: await file.text() }))))
    },
  )

  app.on('GET', ['/api/v1/sources', '/api/sources'], workspace('read'), async (context) =>
    context.json({ sources: index.list(context.get('workspaceId')).map(({ id, name }) => ({ id, name })) }),
  )

  app.on('POST', ['/api/v1/sources', '/api/sources'], workspace('write'), gate, async (context) =>
    ingest(context, [{ name: await readText(context, 'name'), text: await readText(context, 'text') }]),
  )

  app.get('/openapi.json', async (context) => {
    const document = (await (await tollgate.fetch(context.req.raw)).json()) as { paths: object }
    return context.json({ ...document, paths: { ...PATHS, ...document.paths } })
  })

  app.all('*', (context) => tollgate.fetch(context.req.raw, context.env))
  return app

  /** Documents count together or not at all: what does not fit the quota is refused before anything is kept. */
  async function ingest(context: Context<Env>, documents: readonly { name: string; text: string }[]): Promise<Response> {
    const used = await counter(context).consume({ meter: 'source', quantity: documents.length })
    if (!used.allowed) return context.json({ error: used.code, detail: used.reason }, used.code === 'quota_exceeded' ? 429 : 403)
    const workspaceId = context.get('workspaceId')
    const sources = documents.map(({ name, text }) => index.add(workspaceId, name, text))
    return context.json({ sources: sources.map(({ id, name }) => ({ id, name })) }, 201)
  }
}

/** The headers by which a caller is known: a bearer token or key, X-API-Key, or the session's cookie. */
function credentialsOf(context: Context, more: Headers = new Headers()): Headers {
  const headers = new Headers(more)
  headers.delete('authorization')
  for (const name of ['authorization', 'x-api-key', 'cookie', 'x-organization-id']) {
    const value = context.req.header(name)
    if (value !== undefined) headers.set(name, value)
  }
  return headers
}

/** A text of the body; what is not there is the caller's mistake. */
async function readText(context: Context, field: string): Promise<string> {
  const [text] = await readTexts(context, field)
  return text!
}

async function readTexts(context: Context, field: string): Promise<readonly string[]> {
  const body: unknown = await context.req.json().catch(() => null)
  const value = body !== null && typeof body === 'object' ? Object.getOwnPropertyDescriptor(body, field)?.value : undefined
  const texts = [value].flat()
  if (texts.length === 0 || !texts.every((text) => typeof text === 'string' && text !== '')) {
    throw refuse(400, `The body is to be JSON with "${field}".`)
  }
  return texts as string[]
}

function refuse(status: 400 | 403, detail: string): HTTPException {
  return new HTTPException(status, { res: Response.json({ detail }, { status }) })
}
