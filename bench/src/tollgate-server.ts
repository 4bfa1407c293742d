/** The server under load, in a process of its own: the program as it is, with full durability; without Stripe unless a sandbox is named. */
import { pino } from 'pino'
import { serve } from '../../server/src/http/serve.ts'
import { stripeAt } from '../../server/src/sandbox.ts'
import { createTollgate } from '../../server/src/tollgate.ts'
import { BENCH_CATALOG, SELLING_CATALOG } from './catalog.ts'

const [databaseUrl = '', operatorKey = '', sandboxUrl, webhookSecret = ''] = process.argv.slice(2)
const tollgate = createTollgate({
  databaseUrl,
  catalog: sandboxUrl === undefined ? BENCH_CATALOG : SELLING_CATALOG,
  stripe: sandboxUrl === undefined ? null : { ...stripeAt(sandboxUrl), webhookSecrets: [webhookSecret], callsPerSecond: 100_000 },
  operatorKey,
  publicUrl: 'http://localhost',
  log: pino({ level: 'warn' }, pino.destination(2)),
})
await tollgate.start()
const { fetch, preHandler, plainHandler } = tollgate
const server = await serve({ fetch, preHandler, plainHandler, host: '127.0.0.1', port: 0 })
process.stdout.write(`${JSON.stringify({ port: server.port })}\n`)
process.once('SIGTERM', () => {
  void server.stop().then(() => tollgate.stop())
})
