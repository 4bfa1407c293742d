import { readFileSync } from 'node:fs'
import { Stripe } from 'stripe'
import { expect, test } from 'vitest'
import { startSandbox } from '../src/index.ts'
import { readmeFile } from '../scripts/generate-coverage.ts'

type AsyncFunctionConstructor = new (...names: string[]) => (...values: unknown[]) => Promise<unknown>

test('the example of the README does what it says', async () => {
  const [, example = ''] = /```ts\nimport \{ startSandbox \}[^\n]*\n([^`]*)```/.exec(readFileSync(readmeFile, 'utf8')) ?? []
  const AsyncFunction = (async () => {}).constructor as AsyncFunctionConstructor
  const run = new AsyncFunction('startSandbox', 'Stripe', example.replace('await sandbox.stop()', 'return { sandbox, stripe }'))
  const { sandbox, stripe } = (await run(startSandbox, Stripe)) as {
    sandbox: Awaited<ReturnType<typeof startSandbox>>
    stripe: Stripe
  }
  try {
    const { data } = await stripe.invoices.list()
    expect(data.map(({ billing_reason, status, amount_paid }) => [billing_reason, status, amount_paid])).toEqual([
      ['subscription_cycle', 'paid', 2900],
      ['subscription_cycle', 'paid', 2900],
      ['subscription_create', 'paid', 2900],
    ])
  } finally {
    await sandbox.stop()
  }
})
