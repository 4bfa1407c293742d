/** The reference of HTTP: bare `node:http` that parses the same JSON and answers a body of the same kind. */
import { createServer } from 'node:http'

// As long as the server's own answers, with as many headers.
const ANSWER = JSON.stringify({
  allowed: true,
  id: '3f6a2d0e-5f0c-4a52-9f9e-0a1b2c3d4e5f',
  meter: 'calls',
  quantity: 1,
  balance: {
    balance: 'calls',
    unit: 'calls',
    plan: 'free',
    amount: 1_000_000_000,
    used: 123_456,
    remaining: 999_876_544,
    overage: 0,
    reserved: 0,
    period: 'year',
    period_start: '2026-01-01T00:00:00.000Z',
    period_end: '2027-01-01T00:00:00.000Z',
  },
  credits_used: 1,
  total_credits_used: 123_456,
  quota_remaining: 999_876_544,
  quota_exceeded: false,
})
const HEADERS = {
  'content-type': 'application/json',
  'content-length': Buffer.byteLength(ANSWER),
  'x-request-id': 'req_0123456789abcdefghijkl',
  'X-Credits-Used': '123456',
  'X-Credits-Remaining': '999876544',
  'X-Credits-Total': '1000000000',
}

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
