/** The reference of HTTP: bare `node:http` that parses the same JSON and answers a body of the same kind. */
import { createServer } from 'node:http'

const ANSWER = JSON.stringify({
  allowed: true,
  meter: 'calls',
  quantity: 1,
  balance: { used: 1, remaining: 99 },
  credits_used: 1,
})
const HEADERS = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(ANSWER) }

const server = createServer((request, response) => {
  const answer = (): void => {
    response.writeHead(200, HEADERS)
    response.end(ANSWER)
  }
  if (request.method === 'GET') {
    answer()
    return
  }
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  request.on('end', () => {
    JSON.parse(Buffer.concat(chunks).toString())
    answer()
  })
})
server.listen(0, '127.0.0.1', () => {
  const address = server.address()
  process.stdout.write(`${JSON.stringify({ port: typeof address === 'object' ? address?.port : 0 })}\n`)
})
process.once('SIGTERM', () => {
  server.closeAllConnections()
  server.close()
})
