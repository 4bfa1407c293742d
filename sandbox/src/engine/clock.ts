/** Milliseconds of real time. The only place that reads the machine's clock. */
export function realTimeMs(): number {
  return Date.now()
}

/**
 * How the sandbox's own clock runs: `real`; `frozen` at a time; or from `at` (default: now) on, `rate` times as fast as real
 * time (1 = real speed, 0 = frozen, 3600 = an hour each second). Times are unix seconds.
 */
export type ClockSetting = 'real' | { frozen: number } | { at?: number; rate: number }

/** Where the sandbox's clock stands; plain data, so that it can be stored. */
export interface ClockState {
  /** Real time (ms) at which the clock stood at `simulatedMs`. */
  readonly anchorMs: number
  readonly simulatedMs: number
  readonly rate: number
}

/** Reads a clock setting; `realMs` is the current real time in milliseconds. */
export function clockStateOf(setting: ClockSetting, realMs: number): ClockState {
  if (setting === 'real') return { anchorMs: realMs, simulatedMs: realMs, rate: 1 }
  if ('frozen' in setting) return { anchorMs: realMs, simulatedMs: setting.frozen * 1000, rate: 0 }
  return { anchorMs: realMs, simulatedMs: setting.at === undefined ? realMs : setting.at * 1000, rate: setting.rate }
}

/** The clock's time in milliseconds when the real time is `realMs`. */
export function simulatedMs(state: ClockState, realMs: number): number {
  return state.simulatedMs + (realMs - state.anchorMs) * state.rate
}

/** Real milliseconds until the clock reaches `unixSeconds`; null when it never will by itself. */
export function realMsUntil(state: ClockState, unixSeconds: number, realMs: number): number | null {
  const remaining = unixSeconds * 1000 - simulatedMs(state, realMs)
  if (remaining <= 0) return 0
  return state.rate > 0 ? Math.ceil(remaining / state.rate) : null
}

/** The same clock, standing at `unixSeconds` now and running on at its rate. */
export function movedTo(state: ClockState, unixSeconds: number, realMs: number): ClockState {
  return { anchorMs: realMs, simulatedMs: unixSeconds * 1000, rate: state.rate }
}
