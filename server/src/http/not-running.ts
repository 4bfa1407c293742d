import { DomainError } from '../lib/errors.ts'
import { newId } from '../lib/ids.ts'
import { problemOf } from './problems.ts'

const SENTENCES = { starting: 'The server is starting.', stopping: 'The server is stopping.' } as const

/**
 * What a host is answered while the server that it mounts starts, or has stopped. The process lives (`/healthz`): ended for that while it migrates a large database,
 * it would begin again and again. It is not ready (`/readyz`), and refuses everything else.
 */
export function answerNotRunning(request: Request, state: keyof typeof SENTENCES): Response {
  const { pathname } = new URL(request.url)
  if (pathname === '/healthz') return Response.json({ status: 'ok' })
  const { status, headers, body } = problemOf(new DomainError(state, SENTENCES[state]), newId('req'))
  return Response.json(pathname === '/readyz' ? { status: state, checks: {} } : body, { status, headers })
}
