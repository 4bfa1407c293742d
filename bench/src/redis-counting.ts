/**
 * The reference of one hot balance: a Lua script that does the same in Redis. Looks for the key, checks the balance, takes from
 * it, adds to the hour's sum, keeps the event, keeps the answer under its key for 35 days.
 */
import { randomUUID } from 'node:crypto'
import { json } from 'node:stream/consumers'
import { createClient, defineScript } from 'redis'
import { runLoop, type LoopResult } from './closed-loop.ts'

export type RedisTask = {
  readonly url: string
  readonly balances: readonly string[]
  readonly inFlight: number
  readonly seconds: number
  readonly run: string
}

const AMOUNT = 1_000_000_000
const KEPT_SECONDS = 35 * 86_400

const consume = defineScript({
  NUMBER_OF_KEYS: 4,
  SCRIPT: `
    local known = redis.call('get', KEYS[2])
    if known then return known end
    local used = tonumber(redis.call('get', KEYS[1]) or '0')
    local allowed = used + tonumber(ARGV[1]) <= tonumber(ARGV[2])
    if allowed then
      used = redis.call('incrby', KEYS[1], ARGV[1])
      redis.call('hincrby', KEYS[3], ARGV[3], ARGV[1])
    end
    local answer = (allowed and '1 ' or '0 ') .. used .. ' ' .. ARGV[4]
    redis.call('xadd', KEYS[4], '*', 'key', KEYS[2], 'answer', answer, 'meter', 'calls', 'quantity', ARGV[1], 'at', ARGV[3])
    redis.call('set', KEYS[2], answer, 'ex', ${KEPT_SECONDS})
    return answer`,
  parseCommand(parser, balance: string, key: string, hour: string) {
    parser.pushKey(`used:${balance}`)
    parser.pushKey(`key:${balance}:${key}`)
    parser.pushKey(`hours:${balance}`)
    parser.pushKey(`events:${balance}`)
    parser.push('1', String(AMOUNT), hour, randomUUID())
  },
  transformReply: (reply: string) => reply,
})

async function run(task: RedisTask): Promise<LoopResult> {
  const client = await createClient({ url: task.url, scripts: { consume } }).connect()
  const result = await runLoop(task, async (index) => {
    const balance = task.balances[index % task.balances.length]!
    const answer = await client.consume(balance, `${task.run}-${index}`, '2026-01-01T00')
    return answer.startsWith('1 ')
  })
  client.destroy()
  return result
}

process.stdout.write(JSON.stringify(await run((await json(process.stdin)) as RedisTask)))
