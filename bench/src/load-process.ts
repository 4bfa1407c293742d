/** A process of its own that generates load: reads its task from standard input, prints what it measured. */
import { json } from 'node:stream/consumers'
import { runHttpLoad, type MakeBody } from './http-load.ts'

export type LoadTask = {
  readonly port: number
  readonly path: string
  readonly apiKey: string
  readonly connections: number
  readonly seconds: number
  /** `get`: no body; `single`: one use; `batch`: that many items. */
  readonly body: { readonly kind: 'get' } | { readonly kind: 'single' } | { readonly kind: 'batch'; readonly items: number }
  readonly meter: string
  /** Makes this run's keys its own. */
  readonly run: string
}

let keys = 0

function bodyMaker({ body, meter, run }: LoadTask): MakeBody {
  const use = (): string => `"meter":"${meter}","quantity":1,"idempotency_key":"${run}-${(keys += 1)}"`
  switch (body.kind) {
    case 'get':
      return () => null
    case 'single':
      return () => `{${use()}}`
    case 'batch':
      return () => `{"items":[${Array.from({ length: body.items }, () => `{"verb":"consume",${use()}}`).join(',')}]}`
  }
}

const task = (await json(process.stdin)) as LoadTask
const result = await runHttpLoad({
  ...task,
  headers: { 'x-api-key': task.apiKey },
  makeBody: bodyMaker(task),
  count: '"allowed":true',
})
process.stdout.write(JSON.stringify(result))
