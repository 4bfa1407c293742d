import type { Command } from 'commander'
import type { Connection } from './connection.ts'

/** What a command over HTTP is made with. */
export type Kit = {
  /** A command that may print JSON and may name its server. */
  readonly remote: (parent: Command, usage: string, description: string) => Command
  readonly server: (command: Command) => Connection
  readonly answer: (command: Command, value: unknown) => void
}

/** One segment of a path. */
export const path = (segment: string): string => encodeURIComponent(segment)

/** What is given of a query. */
export function queryOf(given: Readonly<Record<string, string | undefined>>): string {
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries(given)) if (value !== undefined) query.set(name, value)
  return query.toString()
}
