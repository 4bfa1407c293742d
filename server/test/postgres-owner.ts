// A process that owns an embedded PostgreSQL until it is told to stop; for the tests that kill it.
// Usage: node postgres-owner.ts <directory>. Prints one line of JSON when ready; a line on stdin stops it cleanly.
import { startEmbeddedPostgres } from '../src/db/embedded-postgres.ts'

const directory = process.argv[2]
if (directory === undefined) throw new Error('A directory is missing.')
const postgres = await startEmbeddedPostgres({ directory })
process.stdout.write(`${JSON.stringify({ url: postgres.url, pid: postgres.pid(), adopted: postgres.adopted })}\n`)
process.stdin.once('data', () => void postgres.stop().then(() => process.exit(0)))
