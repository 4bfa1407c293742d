import { once } from 'node:events'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import pg from 'pg'

/** A pooler in front of a database, and where it is reached. */
export type Pooler = { readonly url: string; stop(): Promise<void> }

const [READY, IDLE] = ['Z'.charCodeAt(0), 'I'.charCodeAt(0)]
/** https://www.postgresql.org/docs/current/protocol-message-formats.html: signed in, and ready. */
const WELCOME = Buffer.from([0x52, 0, 0, 0, 8, 0, 0, 0, 0, READY, 0, 0, 0, 5, IDLE])
const TERMINATE = 'X'.charCodeAt(0)

/** Cuts what arrives into messages, each with its code, its length and what it says. */
function eachMessage(onMessage: (message: Buffer) => void): (bytes: Buffer) => void {
  let rest = Buffer.alloc(0)
  return (bytes) => {
    rest = Buffer.concat([rest, bytes])
    while (rest.length >= 5 && rest.length > rest.readInt32BE(1)) {
      const length = 1 + rest.readInt32BE(1)
      onMessage(rest.subarray(0, length))
      rest = rest.subarray(length)
    }
  }
}

/**
 * Lends one connection by the transaction to whoever says something, as PgBouncer does in transaction mode with a pool of one. It asks for no
 * password, knows no options, and resets nothing between two clients.
 */
export async function startPooler(databaseUrl: string): Promise<Pooler> {
  const owner = new pg.Client({ connectionString: databaseUrl })
  owner.on('error', () => undefined)
  await owner.connect()
  // The connection without what `pg` makes of it.
  const { stream: far } = (owner as unknown as { readonly connection: { readonly stream: Socket } }).connection
  far.removeAllListeners('data')
  const sockets = new Set<Socket>()
  const waiting: { readonly from: Socket; readonly message: Buffer }[] = []
  let holder: Socket | null = null

  function lend(): void {
    holder ??= waiting[0]?.from ?? null
    for (const said of waiting.filter(({ from }) => from === holder)) {
      waiting.splice(waiting.indexOf(said), 1)
      far.write(said.message)
    }
  }
  far.on(
    'data',
    eachMessage((message) => {
      holder?.write(message)
      if (message[0] !== READY || message[5] !== IDLE) return
      holder = null
      lend()
    }),
  )
  const server = createServer((near) => {
    sockets.add(near)
    near.on('error', () => undefined)
    near.on('close', () => sockets.delete(near))
    near.once('data', () => {
      near.write(WELCOME)
      near.on(
        'data',
        eachMessage((message) => {
          if (message[0] === TERMINATE) return void near.end()
          waiting.push({ from: near, message })
          lend()
        }),
      )
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = new URL(databaseUrl)
  url.port = String((server.address() as AddressInfo).port)
  return {
    url: url.href,
    async stop() {
      for (const socket of sockets) socket.destroy()
      server.close()
      far.destroy()
      await once(server, 'close')
    },
  }
}
