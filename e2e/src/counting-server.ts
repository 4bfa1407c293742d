/**
 * A whole server on a database that others serve too, with a quota that is soon used up. Prints its address; meant to be killed.
 * Arguments: address of the database, operator key.
 */
import { pino } from 'pino'
import { serve } from '../../server/src/http/serve.ts'
import { createTollgate } from '../../server/src/tollgate.ts'
import { CRASH_CATALOG } from '../../server/test/crash-catalog.ts'

const [databaseUrl = '', operatorKey = ''] = process.argv.slice(2)
const tollgate = createTollgate({
  databaseUrl,
  catalog: CRASH_CATALOG,
  stripe: null,
  operatorKey,
  publicUrl: 'http://localhost',
  log: pino({ level: 'silent' }),
})
await tollgate.start()
const { fetch, preHandler, plainHandler } = tollgate
const server = await serve({ fetch, preHandler, plainHandler, host: '127.0.0.1', port: 0 })
process.stdout.write(`http://127.0.0.1:${server.port}\n`)
process.once('SIGTERM', () => {
  void server.stop().then(() => tollgate.stop())
})
