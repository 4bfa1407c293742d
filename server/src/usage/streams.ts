import { DomainError } from '../lib/errors.ts'
import type { ChangeFeed } from './changes.ts'
import { changesBetween, lostBetween, nameOfState, type LiveState } from './live.ts'

/** The live streams of this process. */
export type LiveStreams = {
  /**
   * Opens a stream of server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): the state of an
   * organization, then what changes of it.
   * @throws DomainError `overloaded` when as many are open as may be, `stopping`
   */
  open(asked: StreamAsked): ReadableStream<Uint8Array>
  /** Looks again whether everybody may still see what they see. */
  recheck(): void
  running(): number
  /** Ends every stream and opens none any more. */
  end(): void
  stop(): Promise<void>
}

export type StreamAsked = {
  readonly organizationId: string
  /** The name of the last state that the reader has. */
  readonly lastEventId: string | null
  /** Whether the reader may still see the organization. */
  readonly mayStillRead: () => Promise<boolean>
}

export type StreamsOptions = {
  readonly feed: Pick<ChangeFeed, 'listen'>
  readonly read: (organizationIds: readonly string[]) => Promise<ReadonlyMap<string, LiveState>>
  readonly onError: (error: unknown) => void
  readonly most?: number
  readonly mostOfOne?: number
  /** How often changes are looked at, and how often everything is, changed or not. */
  readonly lookEveryMs?: number
  readonly refreshEveryMs?: number
}

const MOST = 1_000
const MOST_OF_ONE = 50
const LOOK_EVERY_MS = 500
// Also what keeps proxies from closing a silent connection, and how soon a balance that time alone changed is seen.
const REFRESH_EVERY_MS = 5_000
// A reader that takes nothing for this many refreshes has left.
const STALLED_REFRESHES = 12
const BUFFER_BYTES = 64 * 1024
const RECONNECT_MS = 2_000

type Stream = StreamAsked & {
  readonly controller: ReadableStreamDefaultController<Uint8Array>
  sent: LiveState | null
  sentName: string | null
  latest: LiveState | null
  stalled: number
}

/**
 * Streams are fed from one loop: organizations that changed and are looked at by somebody are read together, however many look.
 * What a reader has no room for is not kept: it gets the difference to what it last got once it has.
 */
export function startLiveStreams(options: StreamsOptions): LiveStreams {
  const { read, feed, onError, most = MOST, mostOfOne = MOST_OF_ONE } = options
  const streams = new Map<string, Set<Stream>>()
  const dirty = new Set<string>()
  let count = 0
  let ended = false
  let working: Promise<void> = Promise.resolve()
  let busy = false

  feed.listen((organizationIds) => {
    for (const id of organizationIds ?? streams.keys()) if (streams.has(id)) dirty.add(id)
  })

  async function look(): Promise<void> {
    const ids = [...dirty].filter((id) => streams.has(id))
    dirty.clear()
    if (ids.length === 0) return
    try {
      const states = await read(ids)
      for (const id of ids) {
        const state = states.get(id)
        for (const stream of streams.get(id) ?? []) {
          if (state) deliver(stream, state)
          else close(stream)
        }
      }
    } catch (error) {
      for (const id of ids) dirty.add(id)
      onError(error)
    }
  }

  async function recheckAll(): Promise<void> {
    await Promise.all(
      all().map(async (stream) => {
        // Who cannot be known to may read no more: the reader comes back and is asked again.
        if (!(await stream.mayStillRead().catch(() => false))) close(stream)
      }),
    )
  }

  function all(): Stream[] {
    return [...streams.values()].flatMap((own) => [...own])
  }

  function refresh(): void {
    for (const id of streams.keys()) dirty.add(id)
    for (const stream of all()) {
      stream.stalled = hasRoom(stream) ? 0 : stream.stalled + 1
      if (stream.stalled >= STALLED_REFRESHES) close(stream)
      else if (stream.stalled === 0) write(stream, ': \n\n')
    }
    void recheckAll()
  }

  function close(stream: Stream): void {
    if (!forget(stream)) return
    stream.controller.close()
  }

  function forget(stream: Stream): boolean {
    const own = streams.get(stream.organizationId)
    if (own?.delete(stream) !== true) return false
    if (own.size === 0) streams.delete(stream.organizationId)
    count -= 1
    return true
  }

  // Timers of their own: what runs in them belongs to no request, whoever asked for a stream.
  const looking = setInterval(() => {
    if (busy || dirty.size === 0) return
    busy = true
    working = look().finally(() => {
      busy = false
    })
  }, options.lookEveryMs ?? LOOK_EVERY_MS)
  const refreshing = setInterval(refresh, options.refreshEveryMs ?? REFRESH_EVERY_MS)
  looking.unref()
  refreshing.unref()

  function end(): void {
    ended = true
    for (const stream of all()) close(stream)
  }

  return {
    open(asked) {
      if (ended) throw new DomainError('stopping', 'The server is stopping.')
      const own = streams.get(asked.organizationId) ?? new Set()
      if (count >= most || own.size >= mostOfOne) {
        throw new DomainError('overloaded', 'As many live streams are open as may be.')
      }
      let opened: Stream
      const stream = new ReadableStream<Uint8Array>(
        {
          start(controller) {
            opened = { ...asked, controller, sent: null, sentName: asked.lastEventId, latest: null, stalled: 0 }
            write(opened, `retry: ${RECONNECT_MS}\n\n`)
          },
          pull: () => send(opened),
          cancel: () => void forget(opened),
        },
        { highWaterMark: BUFFER_BYTES, size: (chunk) => chunk.byteLength },
      )
      own.add(opened!)
      streams.set(asked.organizationId, own)
      count += 1
      dirty.add(asked.organizationId)
      return stream
    },
    recheck: () => void recheckAll(),
    running: () => count,
    end,
    async stop() {
      clearInterval(looking)
      clearInterval(refreshing)
      end()
      await working
    },
  }
}

const encoder = new TextEncoder()

function hasRoom({ controller }: Stream): boolean {
  return (controller.desiredSize ?? 0) > 0
}

function write(stream: Stream, text: string): void {
  stream.controller.enqueue(encoder.encode(text))
}

function deliver(stream: Stream, state: LiveState): void {
  stream.latest = state
  send(stream)
}

/** Sends what the reader does not have yet, if it has room for it. */
function send(stream: Stream): void {
  const { latest, sent, sentName } = stream
  if (latest === null || latest === sent || !hasRoom(stream)) return
  const name = nameOfState(latest)
  // Before it is written: a waiting reader asks for more from within the writing.
  stream.sent = latest
  stream.sentName = name
  if (name === sentName) {
    // Who comes back with the present state learns that it is: a comment, which is no event.
    if (sent === null) write(stream, ': current\n\n')
    return
  }
  const whole = sent === null || lostBetween(sent, latest)
  write(
    stream,
    eventText({ event: whole ? 'snapshot' : 'change', id: name, data: whole ? latest : changesBetween(sent, latest) }),
  )
}

function eventText({ event, id, data }: { event: string; id: string; data: LiveState }): string {
  // JSON has no line breaks of its own, so it is one line of data.
  return `event: ${event}\nid: ${id}\ndata: ${JSON.stringify(data)}\n\n`
}
