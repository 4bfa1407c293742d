import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterEach, inject } from 'vitest'

const made: string[] = []

afterEach(async () => {
  // Not by force: connections that are just closing are waited for.
  for (const name of made.splice(0)) await onServer(`drop database ${name}`)
})

/** An empty database of the calling test's own, dropped after it, on a server that has the role `postgres`; answers its address. */
export async function blankDatabase(): Promise<string> {
  await onServer('do $$ begin create role postgres; exception when duplicate_object then null; end $$')
  const name = `library_${randomUUID().replaceAll('-', '')}`
  await onServer(`create database ${name}`)
  made.push(name)
  const url = new URL(inject('databaseServerUrl'))
  url.pathname = `/${name}`
  return url.href
}

async function onServer(statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: inject('databaseServerUrl') })
  await client.connect()
  try {
    await client.query(statement)
  } finally {
    await client.end()
  }
}
