import { startLoop } from '../jobs/loop.ts'
import { forward, type SinksContext } from './forward.ts'
import { createLagoSink, type LagoOptions } from './lago.ts'
import { createFileSink, createHttpSink } from './ndjson.ts'
import type { Sink } from './sink.ts'

/** Where use is forwarded to; each that is left out is not. */
export type SinkOptions = {
  readonly lago?: LagoOptions | undefined
  readonly http?: { readonly url: string; readonly key: string | null } | undefined
  readonly file?: { readonly path: string } | undefined
}

export function createSinks({ lago, http, file }: SinkOptions): readonly Sink[] {
  return [
    ...(lago ? [createLagoSink(lago)] : []),
    ...(http ? [createHttpSink(http)] : []),
    ...(file ? [createFileSink(file)] : []),
  ]
}

const POLL_MS = 5_000

/** Forwards to every sink in the background, each for itself: one that is slow or away holds up no other, and no call. */
export function startSinks(context: SinksContext, sinks: readonly Sink[]): { stop(): Promise<void> } {
  const stopping = new AbortController()
  const loops = sinks.map((sink) =>
    startLoop({
      run: () => forward(context, sink, stopping.signal),
      pollMs: POLL_MS,
      onFailure: (error) =>
        context.log.warn({ event: 'sink.failed', sink: sink.name, err: error }, 'forwarding failed; it is tried again'),
    }),
  )
  return {
    async stop() {
      stopping.abort()
      await Promise.all(loops.map((loop) => loop.stop()))
    },
  }
}
