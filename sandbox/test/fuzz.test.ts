/**
 * Any request at all, to any operation, in any order: the sandbox answers as Stripe would or refuses with an error, never fails itself, and
 * everything it answers keeps to the contract.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { loadSpec, type OperationSpec, type Schema } from '../src/engine/spec.ts'
import { operationsOf } from '../src/http/api.ts'
import { encodeForm } from '../src/http/form.ts'
import { modules } from '../src/modules.ts'
import { NOW, startTestSandbox, type TestSandbox } from './contract.ts'

const spec = loadSpec()

/** Text that means something somewhere, beside text that does not. */
const TEXTS = [
  '',
  'usd',
  'eur',
  'x',
  'pm_card_visa',
  'pm_card_chargeDeclined',
  'month',
  'https://example.com',
  '10',
  '0.5',
  'now',
  'card',
]
const NUMBERS = [0, 1, 2, 100, 2900, -5, NOW, NOW + 86_400, NOW + 31 * 86_400, 1e15]

/** `{{3}}` stands for the id of the third object there is (counted around), of the kind that the parameter's name suggests. */
function textOf(name: string): fc.Arbitrary<string> {
  if (name === 'currency') return fc.constantFrom('usd', 'eur')
  return fc.oneof(
    { arbitrary: fc.nat({ max: 5 }).map((at) => `{{${name}:${at}}}`), weight: 3 },
    { arbitrary: fc.constantFrom(...TEXTS), weight: 1 },
  )
}

function valueOf(schema: Schema, name: string, depth: number): fc.Arbitrary<unknown> {
  if (schema.anyOf !== undefined) return fc.oneof(...schema.anyOf.map((member) => valueOf(member, name, depth)))
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum)
  switch (schema.type) {
    case 'object':
      return objectOf(schema, depth)
    case 'array':
      return fc.array(valueOf(schema.items ?? {}, name, depth + 1), { minLength: 1, maxLength: 2 })
    case 'integer':
    case 'number':
      return fc.constantFrom(...NUMBERS)
    case 'boolean':
      return fc.boolean()
    case 'string':
    case undefined:
      return textOf(name)
    default:
      return schema.type satisfies never
  }
}

function objectOf(schema: Schema, depth: number): fc.Arbitrary<Record<string, unknown>> {
  const required = new Set(schema.required)
  const members = Object.entries(schema.properties ?? {}).filter(
    ([name]) => name !== 'expand' && (depth < 4 || required.has(name)),
  )
  if (members.length === 0) return fc.constant({ key: 'value' })
  const optional = members.filter(([name]) => !required.has(name)).map(([name]) => name)
  const chosen = fc.uniqueArray(fc.constantFrom(...(optional.length === 0 ? [''] : optional)), { maxLength: depth === 0 ? 4 : 2 })
  return chosen.chain((names) =>
    fc.record(
      Object.fromEntries(
        members
          .filter(([name]) => required.has(name) || names.includes(name))
          .map(([name, member]) => [name, valueOf(member, name, depth + 1)]),
      ),
    ),
  )
}

const operations = [...spec.operations.values()]
/** Things are more often made and changed than read. */
const weighted = operations.flatMap((operation) => (operation.method === 'GET' ? [operation] : [operation, operation, operation]))

interface Asked {
  readonly operation: OperationSpec
  readonly params: Record<string, unknown>
  readonly path: number
}

const declared = operationsOf(modules)

/** The parameters that are understood, and one time in a while any of the contract. */
function paramsOf(operation: OperationSpec): fc.Arbitrary<Record<string, unknown>> {
  const takes = new Set(declared.get(operation.key)?.takes)
  const understood = Object.entries(operation.params.properties ?? {}).filter(([name]) => takes.has(name))
  const narrow = objectOf({ ...operation.params, properties: Object.fromEntries(understood) }, 0)
  return fc.oneof({ arbitrary: narrow, weight: 9 }, { arbitrary: objectOf(operation.params, 0), weight: 1 })
}

const request: fc.Arbitrary<Asked> = fc
  .constantFrom(...weighted)
  .chain((operation) => fc.record({ operation: fc.constant(operation), params: paramsOf(operation), path: fc.nat({ max: 5 }) }))

/** Which kind of object a parameter or a path means: `payment_method`, `coupon`; `id` means the path's own. */
function kindOf(name: string, path: string): string {
  const resource = path.split('/')[2] ?? ''
  const singular: Record<string, string> = {
    checkout: 'checkout.session',
    test_helpers: 'test_helpers.test_clock',
    billing_portal: 'billing_portal.session',
  }
  const own =
    singular[resource] ??
    (resource === 'billing' ? `billing.${(path.split('/')[3] ?? '').replace(/s$/, '')}` : resource.replace(/s$/, ''))
  return (
    {
      id: own,
      customerId: 'customer',
      invoiceId: 'invoice',
      productId: 'product',
      default_payment_method: 'payment_method',
      test_clock: 'test_helpers.test_clock',
      meter: 'billing.meter',
      default_price: 'price',
    }[name] ?? name
  )
}

function resolver({ sandbox }: TestSandbox, path: string): (name: string, at: number) => string {
  return (name, at) => {
    const kind = kindOf(name, path)
    const known = sandbox.exportFixture().objects[kind] ?? []
    return known[at % Math.max(known.length, 1)]?.id ?? 'none_1'
  }
}

async function send(bench: TestSandbox, asked: Asked): Promise<number> {
  const idOf = resolver(bench, asked.operation.path)
  const filled = JSON.parse(
    JSON.stringify(asked.params).replaceAll(/\{\{(\w+):(\d)\}\}/g, (_all, name: string, at: string) => idOf(name, Number(at))),
  ) as Record<string, unknown>
  const pathname = asked.operation.path.replaceAll(/\{(\w+)\}/g, (_all, name: string) => idOf(name, asked.path))
  const isJson = pathname.startsWith('/v2/')
  const form = encodeForm(filled)
  const headers = {
    authorization: 'Bearer sk_test_fuzz',
    'content-type': isJson ? 'application/json' : 'application/x-www-form-urlencoded',
  }
  const init =
    asked.operation.method === 'POST'
      ? { method: 'POST', body: isJson ? JSON.stringify(filled) : form, headers }
      : { method: asked.operation.method, headers }
  const query = asked.operation.method === 'POST' || form === '' ? '' : `?${form}`
  return (await bench.fetch(pathname + query, init)).status
}

test('no request makes the sandbox fail or break the contract', async () => {
  const seen = new Map<number, number>()
  await fc.assert(
    fc.asyncProperty(fc.array(request, { minLength: 20, maxLength: 40 }), async (requests) => {
      const bench = await startTestSandbox()
      for (const event of ['invoice.paid', 'customer.subscription.created', 'coupon.created', 'billing.meter.created'])
        await bench.sandbox.trigger(event)
      for (const asked of requests) {
        const status = await send(bench, asked)
        seen.set(status, (seen.get(status) ?? 0) + 1)
        expect(status, `${asked.operation.key} ${JSON.stringify(asked.params)}`).toBeLessThan(500)
      }
      bench.sandbox.advanceTo(NOW + 40 * 86_400)
      await bench.check()
    }),
    { numRuns: 25 },
  )
  expect(seen.get(200)).toBeGreaterThan(50)
})
