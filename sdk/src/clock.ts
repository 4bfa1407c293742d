/** The machine's time, for what is stamped when no caller names a time. */
export const machineTime = (): Date => new Date()

/** Milliseconds of a clock that only moves forward, for how long something takes. */
export const elapsedMs = (): number => performance.now()
