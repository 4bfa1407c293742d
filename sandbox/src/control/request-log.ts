/** One API request, for the log that error answers link to. */
export interface LoggedRequest {
  readonly id: string
  readonly method: string
  readonly path: string
  readonly status: number
  /** Unix milliseconds of real time. */
  readonly atMs: number
  readonly idempotencyKey: string | null
  /** The error's message; null when there was none. */
  readonly error: string | null
}

const KEPT = 1000

/** Remembers the last requests; in memory only. */
export class RequestLog {
  private readonly requests = new Map<string, LoggedRequest>()

  add(request: LoggedRequest): void {
    this.requests.set(request.id, request)
    if (this.requests.size <= KEPT) return
    const oldest = this.requests.keys().next().value
    if (oldest !== undefined) this.requests.delete(oldest)
  }

  get(id: string): LoggedRequest | undefined {
    return this.requests.get(id)
  }

  /** Newest first. */
  latest(count: number): LoggedRequest[] {
    return [...this.requests.values()].slice(-count).toReversed()
  }
}
