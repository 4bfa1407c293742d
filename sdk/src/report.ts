/** Calls a callback of the host's that only tells something: one that fails itself must not end what is under way. */
export function report(callback: () => void): void {
  try {
    callback()
  } catch {
    // What it was told of is done, or goes on.
  }
}
