/** The way of one call: what it came to is remembered for those after it. */
export type Passage = {
  /** Whether this call is the one that looks if the server is back. */
  readonly isProbe: boolean
  /** The server said something, whatever it was. */
  answered(): void
  /** No answer came, in all attempts: for so long other calls are not sent, unless one of them has been answered meanwhile. */
  lost(pauseMs: number): void
  /** The call is over. */
  end(): void
}

export type Circuit = {
  /** Lets a call go, or, while the server is known to be away, not: null. */
  enter(): Passage | null
}

/**
 * A short memory that a server is away, so that not every call waits for itself to find that out. After the pause one call goes and looks,
 * while the others still do not; its answer lets all go again.
 * @param now milliseconds of a clock that only moves forward
 */
export function createCircuit(now: () => number): Circuit {
  let answers = 0
  let awayUntil: number | null = null
  let isProbed = false

  return {
    enter() {
      const isProbe = awayUntil !== null
      if (awayUntil !== null && (isProbed || now() < awayUntil)) return null
      if (isProbe) isProbed = true
      const before = answers
      return {
        isProbe,
        answered() {
          answers += 1
          awayUntil = null
        },
        lost(pauseMs) {
          if (pauseMs > 0 && answers === before) awayUntil = now() + pauseMs
        },
        end() {
          if (isProbe) isProbed = false
        },
      }
    },
  }
}

const circuits = new Map<string, Circuit>()

/** The memory of one address: clients that a host makes for each request, or for each of its customers, share it. */
export function circuitOf(address: string, now: () => number): Circuit {
  let circuit = circuits.get(address)
  if (circuit === undefined) circuits.set(address, (circuit = createCircuit(now)))
  return circuit
}
