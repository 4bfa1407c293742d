import { pino, type DestinationStream, type Logger } from 'pino'
import { redact } from './redact.ts'

export type LogOptions = {
  readonly level: string
  /** Secrets of no particular shape: they are taken out of every line. */
  readonly secrets: readonly string[]
  readonly destination?: DestinationStream
}

/** A logger of JSON lines. Whatever is logged, an error with a connection string too, its secrets are taken out of the line. */
export function createLog(options: LogOptions): Logger {
  const { level, secrets, destination } = options
  const settings = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    hooks: { streamWrite: (line: string) => redact(line, secrets) },
  }
  return destination ? pino(settings, destination) : pino(settings)
}
