import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { createClient } from 'redis'

export type RedisServer = { readonly url: string; empty(): Promise<void>; stop(): Promise<void> }

/** Whether the machine has the program at all; where it has not, what is compared with it is left out. */
export function hasRedis(): boolean {
  return spawnSync('redis-server', ['--version']).status === 0
}

/** Redis on a free port of the loopback, keeping everything in memory or, when it is to be durable, syncing every answer. */
export async function startRedis({ durable, directory }: { durable: boolean; directory: string }): Promise<RedisServer> {
  const port = await freePort()
  const persistence = durable ? ['--appendonly', 'yes', '--appendfsync', 'always'] : ['--appendonly', 'no']
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', directory, ...persistence]
  const child = spawn('redis-server', args, { stdio: ['ignore', 'ignore', 'inherit'] })
  const ended = once(child, 'close')
  const url = `redis://127.0.0.1:${port}`
  const client = createClient({ url, socket: { reconnectStrategy: 20 } })
  // Refused until it listens; the client asks again.
  client.on('error', () => {})
  await client.connect()
  return {
    url,
    async empty() {
      await client.flushAll()
    },
    async stop() {
      client.destroy()
      child.kill('SIGTERM')
      await ended
    },
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('There is no free port.')
  return address.port
}
