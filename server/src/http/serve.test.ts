import { once } from 'node:events'
import { Agent, request } from 'node:http'
import { connect } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { serve, type HttpServer } from './serve.ts'

const servers: HttpServer[] = []

afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.stop()))
})

async function start(options: Partial<Parameters<typeof serve>[0]>): Promise<HttpServer> {
  const server = await serve({ host: '127.0.0.1', port: 0, fetch: () => new Response('app'), ...options })
  servers.push(server)
  return server
}

/** One request over the agent's connection; answers the body, or the error's code. */
async function ask(port: number, agent: Agent): Promise<string> {
  const sent = request({ host: '127.0.0.1', port, agent, path: '/' })
  sent.end()
  try {
    const [response] = (await once(sent, 'response')) as [NodeJS.ReadableStream]
    let body = ''
    for await (const chunk of response) body += String(chunk)
    return body
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error)
  }
}

describe('the server', () => {
  it('stops under load without dropping a request that it could have answered', async () => {
    let accepted = 0
    let answered = 0
    let release = (): void => undefined
    const gate = new Promise<void>((resolve) => {
      release = resolve
    })
    const server = await start({
      fetch: async () => {
        accepted += 1
        if (accepted >= 200) release()
        await new Promise((resolve) => {
          setTimeout(resolve, 5)
        })
        return new Response('answered')
      },
    })
    const outcomes: string[] = []
    const callers = Array.from({ length: 16 }, async () => {
      const agent = new Agent({ keepAlive: true, maxSockets: 1 })
      for (;;) {
        const outcome = await ask(server.port, agent)
        outcomes.push(outcome)
        if (outcome !== 'answered') break
        answered += 1
      }
      agent.destroy()
    })
    await gate
    await server.stop()
    await Promise.all(callers)
    expect(answered).toBe(accepted)
    expect(new Set(outcomes)).toEqual(new Set(['answered', 'ECONNREFUSED']))
  })

  it('ends requests that take too long to be answered', async () => {
    let arrived = (): void => undefined
    const arrival = new Promise<void>((resolve) => {
      arrived = resolve
    })
    const server = await start({
      drainTimeoutMs: 50,
      fetch: () => {
        arrived()
        return new Promise<Response>(() => undefined)
      },
    })
    const agent = new Agent()
    const outcome = ask(server.port, agent)
    await arrival
    await server.stop()
    expect(await outcome).toBe('ECONNRESET')
  })

  it('answers the check of a load balancer that names no host', async () => {
    const server = await start({ fetch: (request) => new Response(new URL(request.url).pathname) })
    const socket = connect(server.port, '127.0.0.1')
    socket.end('GET /readyz HTTP/1.0\r\n\r\n')
    let answer = ''
    for await (const bytes of socket) answer += String(bytes)
    expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\n\/readyz$/)
  })

  it('tells callers for how long it keeps their connection', async () => {
    const server = await start({ keepAliveMs: 620_000 })
    const answer = await fetch(`http://127.0.0.1:${server.port}/`)
    await answer.text()
    expect(answer.headers.get('keep-alive')).toBe('timeout=620')
  })

  it('lets a pre-handler answer before the app', async () => {
    const server = await start({
      preHandler: (incoming, response) => {
        if (incoming.url !== '/') return false
        response.end('lean')
        return true
      },
    })
    const agent = new Agent()
    expect(await ask(server.port, agent)).toBe('lean')
    expect(await (await fetch(`http://127.0.0.1:${server.port}/other`)).text()).toBe('app')
  })

  it('says which port is taken', async () => {
    const { port } = await start({})
    await expect(start({ port })).rejects.toThrow(`Port ${port} on 127.0.0.1 is taken. Set PORT to another`)
  })
})
