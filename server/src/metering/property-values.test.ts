import fc from 'fast-check'
import { expect, test } from 'vitest'
import { testMetering } from '../../test/metering.ts'
import { MICRO } from '../lib/quantity.ts'
import { explainFigure } from '../usage/explain.ts'
import { textOfValue, valuesOfText } from './decide/property-values.ts'
import type { UsageAnswer, UsageProperties } from './usage.ts'

const fixture = testMetering({
  meters: {
    users: { aggregation: 'unique', uniqueBy: 'user' },
    large: { filter: { size: ['1e+21', '1e-7'] } },
  },
  plans: { free: { name: 'Free', allowances: { users: { amount: 10, limit: 'soft' }, large: { amount: 10, limit: 'soft' } } } },
  defaultPlan: 'free',
})

type Value = UsageProperties[string]

/** Numbers as JSON has them, those of PostgreSQL's and ECMAScript's different spellings among them; and texts and booleans that read like them. */
const number = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true }),
  fc
    .tuple(fc.integer({ min: 1, max: 999 }), fc.integer({ min: -320, max: 305 }))
    .map(([digits, exponent]) => Number(`${digits}e${exponent}`)),
  fc.integer(),
)
const value = fc.oneof(number, number.map(String), fc.boolean(), fc.constantFrom('true', '1E21', '1000000000000000000000', 'x'))

let keys = 0
async function tell(organizationId: string, meter: string, properties: UsageProperties): Promise<string> {
  const idempotencyKey = `k${(keys += 1)}`
  await fixture
    .metering()
    .ask({ verb: 'track', organizationId, meter, quantity: MICRO, idempotencyKey, occurredAt: null, properties })
  return idempotencyKey
}
const retract = (organizationId: string, corrects: string): Promise<UsageAnswer> =>
  fixture
    .metering()
    .ask({ verb: 'correct', organizationId, corrects, quantity: null, idempotencyKey: `r${(keys += 1)}`, properties: null })

test.each([1e21, -1e21, 1.5e300, 1e-7, 5e-324, 0.000001, 123456789012345680000])(
  'a unique meter keeps the value %d as long as another use has it',
  async (user) => {
    const organizationId = await fixture.newOrganization()
    const first = await tell(organizationId, 'users', { user })
    const second = await tell(organizationId, 'users', { user: String(user) })
    expect((await retract(organizationId, first)).balance.used).toBe(MICRO)
    expect((await retract(organizationId, second)).balance.used).toBe(0n)
  },
)

test('a unique meter counts the texts that its uses have, whichever of them are taken back, in whatever order', async () => {
  const uses = fc
    .tuple(value, value)
    .chain(([one, other]) => fc.array(fc.constantFrom(one, String(one), other), { minLength: 1, maxLength: 4 }))
  await fc.assert(
    fc.asyncProperty(uses, async (told) => {
      const organizationId = await fixture.newOrganization()
      const left: { key: string; user: Value }[] = []
      for (const user of told) left.push({ key: await tell(organizationId, 'users', { user }), user })
      while (left.length > 0) {
        const { key } = left.shift()!
        const { balance } = await retract(organizationId, key)
        expect(balance.used).toBe(BigInt(new Set(left.map(({ user }) => String(user))).size) * MICRO)
      }
    }),
    { numRuns: 60 },
  )
})

test('the values of a text are those of JSON that have it, and no others', () => {
  fc.assert(
    fc.property(value, value, (one, other) => {
      const values = JSON.parse(JSON.stringify(valuesOfText(textOfValue(one)))) as Value[]
      expect(values.includes(JSON.parse(JSON.stringify(other)) as Value)).toBe(textOfValue(one) === textOfValue(other))
      expect(values).toContain(JSON.parse(JSON.stringify(one)))
    }),
  )
})

test('a filter takes the same numbers for a figure and for the events behind it', async () => {
  const organizationId = await fixture.newOrganization()
  for (const size of [1e21, 1e-7, '1e+21', 1e20, '1000000000000000000000', 0.000001])
    await tell(organizationId, 'large', { size })
  const context = { ...fixture.context(), db: fixture.database.db }
  const { figure, events } = await explainFigure(context, { organizationId, meter: 'large', limit: 100 })
  expect(figure.quantity).toBe(3n * MICRO)
  expect(events.map(({ properties }) => properties!['size'])).toEqual([1e21, 1e-7, '1e+21'])
})
