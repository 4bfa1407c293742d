import { isSuccess, tell, type CallOutcome, type MeteredCall, type MeteredTerms } from './metered-call.ts'

export type WebAnswerOptions = Pick<MeteredTerms, 'onError'> & {
  /** The answer is a stream: it is recorded when it has ended or the caller hangs up, and `X-Credits-*` are those of the hold. */
  readonly streams?: boolean
}

type Answered = {
  readonly request: Request
  readonly call: MeteredCall
  readonly outcome: CallOutcome
  readonly options: WebAnswerOptions
}

/**
 * Ends a metered call with a web-standard answer, and gives that the headers of EM-5. The answer is the same object where its headers
 * may be set, else one made anew around its body (of a passed-on fetch they may not).
 */
export async function finishWith(response: Response, { request, call, outcome, options }: Answered): Promise<Response> {
  // Nobody reads the body of a HEAD.
  const isStreamed = options.streams === true && request.method !== 'HEAD' && isSuccess(outcome.status)
  const streamed = isStreamed ? response.body : null
  if (streamed === null) return withHeaders(response, await call.finish(outcome))
  const finish = async (): Promise<void> => {
    try {
      await call.finish(outcome)
    } catch (error) {
      tell(options, error)
    }
  }
  const { status, statusText } = response
  const body = afterBody(streamed, finish, request.signal)
  return withHeaders(new Response(body, { status, statusText, headers: response.headers }), call.headers)
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
 * The same body, with something done, once, when it has been passed on whole, broke off, or is not wanted any more because the caller hung up.
 * Its end waits for it.
 * @param hungUp tells that the caller has gone: some hosts then neither read the body nor cancel it
 */
export function afterBody(
  body: NonNullable<Response['body']>,
  done: () => Promise<void>,
  hungUp?: AbortSignal,
): NonNullable<Response['body']> {
  const reader = body.getReader()
  let ending: Promise<void> | undefined
  const end = (): Promise<void> => (ending ??= done())
  const cancel = async (reason: unknown): Promise<void> => {
    await Promise.all([end(), reader.cancel(reason)])
  }
  // A body that fails as it is let go of has nobody left to hear of it.
  const letGo = (): void => void cancel(hungUp?.reason).catch(() => undefined)
  if (hungUp?.aborted === true) letGo()
  else hungUp?.addEventListener('abort', letGo, { once: true })
  return new ReadableStream({
    async pull(controller) {
      try {
        const part = await reader.read()
        if (!part.done) return controller.enqueue(part.value)
      } catch (error) {
        await end()
        return controller.error(error)
      }
      await end()
      controller.close()
    },
    cancel,
  })
}
