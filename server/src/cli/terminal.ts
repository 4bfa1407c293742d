import { CommanderError } from 'commander'
import { ConfigError } from '../config.ts'
import { DomainError } from '../lib/errors.ts'
import { CliError } from './connection.ts'
import type { Output } from './print.ts'

/** The terminal: answers on standard output, everything else on standard error. */
export const output: Output = {
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
}

/** Errors whose message is a sentence for the person at the keyboard; a stack would only hide it. */
const SENTENCES = new Set(['CatalogError', 'MigrationError', 'EmbeddedPostgresError', 'StartError'])

/** What an error says; where PostgreSQL is away, also what it said: a wrong password or name of the database does not pass by itself. */
export function sentenceOf(error: Error): string {
  const { message, cause } = error
  if (!(error instanceof DomainError && error.code === 'database_unavailable' && cause instanceof Error)) return message
  // Of a name with several addresses Node says nothing but the code.
  return `${message} (${cause.message === '' && 'code' in cause ? String(cause.code) : cause.message})`
}

/** Of a file or directory, which it names. */
const isOfFile = (error: Error): boolean => 'syscall' in error && 'path' in error

/** Says what went wrong and answers the exit code: 1 refused or failed, 2 used wrongly. */
export function explain(error: unknown, { err }: Output): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
  if (error instanceof ConfigError) {
    err(`The configuration is wrong:\n${error.problems.map((problem) => `  ${problem}\n`).join('')}`)
  } else if (error instanceof CliError || error instanceof DomainError) {
    err(`${sentenceOf(error)}\n`)
  } else if (error instanceof Error) {
    err(`${SENTENCES.has(error.name) || isOfFile(error) ? error.message : error.stack}\n`)
  } else {
    err(`${String(error)}\n`)
  }
  return 1
}
