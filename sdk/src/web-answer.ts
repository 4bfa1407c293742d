import { isSuccess, tell, type CallOutcome, type MeteredCall, type MeteredTerms } from './metered-call.ts'

export type WebAnswerOptions = Pick<MeteredTerms, 'onError'> & {
  /** The answer is a stream: it is recorded when it has ended or the caller hangs up, and `X-Credits-*` are those of the hold. */
  readonly streams?: boolean
}

/**
 * Ends a metered call with a web-standard answer, and gives that the headers of EM-5. The answer is the same object where its headers
 * may be set, else one made anew around its body (of a passed-on fetch they may not).
 */
export async function finishWith(
  response: Response,
  { call, outcome, options }: { readonly call: MeteredCall; readonly outcome: CallOutcome; readonly options: WebAnswerOptions },
): Promise<Response> {
  const streamed = options.streams === true && isSuccess(outcome.status) ? response.body : null
  if (streamed === null) return withHeaders(response, await call.finish(outcome))
  const finish = async (): Promise<void> => {
    try {
      await call.finish(outcome)
    } catch (error) {
      tell(options, error)
    }
  }
  const { status, statusText } = response
  return withHeaders(new Response(afterBody(streamed, finish), { status, statusText, headers: response.headers }), call.headers)
}

function withHeaders(response: Response, added: Readonly<Record<string, string>>): Response {
  try {
    for (const [name, value] of Object.entries(added)) response.headers.set(name, value)
    return response
  } catch {
    const { status, statusText, body } = response
    const headers = new Headers(response.headers)
    for (const [name, value] of Object.entries(added)) headers.set(name, value)
    return new Response(body, { status, statusText, headers })
  }
}

/**
 * The same body, with something done once it has been passed on whole, broke off, or is not wanted any more because the caller hung up.
 * Its end waits for it.
 */
export function afterBody(body: NonNullable<Response['body']>, done: () => Promise<void>): NonNullable<Response['body']> {
  const reader = body.getReader()
  return new ReadableStream({
    async pull(controller) {
      try {
        const part = await reader.read()
        if (!part.done) return controller.enqueue(part.value)
      } catch (error) {
        await done()
        return controller.error(error)
      }
      await done()
      controller.close()
    },
    async cancel(reason) {
      await Promise.all([done(), reader.cancel(reason)])
    },
  })
}
