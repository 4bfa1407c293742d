import type { ClockSetting } from '../engine/clock.ts'

/** `--clock`: `real`, a time at which the clock stands still, or `60x` (and `2026-01-31T00:00Z@60x`) for a faster one. */
export function parseClock(text: string): ClockSetting {
  if (text === 'real') return 'real'
  const [, at, rate] = /^(?:(.+?)@)?(\d+(?:\.\d+)?)x$/.exec(text) ?? []
  if (rate !== undefined) return at === undefined ? { rate: Number(rate) } : { at: parseTime(at), rate: Number(rate) }
  return { frozen: parseTime(text) }
}

/** A time as unix seconds: `1767225600` or anything ISO 8601 (`2026-01-31`, `2026-01-31T12:00:00Z`). */
export function parseTime(text: string): number {
  if (/^\d{9,11}$/.test(text)) return Number(text)
  const ms = Date.parse(text)
  if (Number.isNaN(ms)) throw new RangeError(`'${text}' is not a time. Write 2026-01-31T12:00:00Z or unix seconds.`)
  return Math.floor(ms / 1000)
}

const UNIT_SECONDS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 }

/** A span as seconds: `90s`, `15m`, `24h`, `31d`, `2w`. */
export function parseSpan(text: string): number {
  const [, amount, unit = ''] = /^(\d+)([smhdw])$/.exec(text) ?? []
  if (amount === undefined) throw new RangeError(`'${text}' is not a span. Write 90s, 15m, 24h, 31d or 2w.`)
  return Number(amount) * (UNIT_SECONDS[unit] ?? 0)
}

/** A port number, 0 for any free one. */
export function parsePort(text: string): number {
  const port = Number(text)
  if (Number.isInteger(port) && port >= 0 && port <= 65_535) return port
  throw new RangeError(`'${text}' is not a port (0 to 65535).`)
}

/** The JSON value of an option. */
export function parseJson(option: string, text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new RangeError(`'${text}' is not a JSON value, which ${option} takes.`)
  }
}
