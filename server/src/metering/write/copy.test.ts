import fc from 'fast-check'
import { expect, test } from 'vitest'
import { testMetering } from '../../../test/metering.ts'
import { copyRows } from './copy.ts'

const fixture = testMetering()

test('whatever can be stored comes back as it was, in the order in which it was sent', async () => {
  await fixture.database.db.query('create table copied (position bigint, words text, flag boolean, at timestamptz)')
  const text = fc.string({ unit: 'binary' }).filter((words) => words.isWellFormed() && !words.includes('\u0000'))
  const special = fc
    .array(fc.constantFrom('\\', '\n', '\r', '\t', '\\N', '\\.', 'a', ''), { maxLength: 8 })
    .map((parts) => parts.join(''))
  const at = fc.date({ min: new Date('1990-01-01'), max: new Date('2100-01-01'), noInvalidDate: true })
  const row = fc.tuple(fc.option(fc.oneof(text, special)), fc.boolean(), fc.option(at))
  await fc.assert(
    fc.asyncProperty(fc.array(row, { maxLength: 20 }), async (rows) => {
      await fixture.connections().transaction(async (tx) => {
        await tx.query('delete from copied')
        const send = () => [
          copyRows(
            tx,
            { table: 'copied', columns: { position: 'bigint', words: 'text', flag: 'boolean', at: 'timestamptz' } },
            rows.map((values, index) => [BigInt(index), ...values]),
          ),
        ]
        return { send, result: null }
      })
      const found = await fixture.database.db.query<{ words: string | null; flag: boolean; at: Date | null }>(
        'select words, flag, at from copied order by position',
      )
      expect(found.rows.map(({ words, flag, at: moment }) => [words, flag, moment])).toEqual(rows)
    }),
    { numRuns: 50 },
  )
})

test('a copy that fails takes its transaction with it, and the connection serves the next', async () => {
  await fixture.database.db.query('create table checked (value bigint check (value < 10))')
  const write = (values: readonly bigint[]) =>
    fixture.connections().transaction(async (tx) => {
      const rows = values.map((value) => [value])
      return {
        send: () => [
          copyRows(tx, { table: 'checked', columns: { value: 'bigint' } }, rows),
          tx.query('insert into checked values (1)'),
        ],
        result: values.length,
      }
    })
  await expect(write([1n, 99n])).rejects.toMatchObject({ code: '23514' })
  await expect(write([2n, 3n])).resolves.toBe(2)
  const { rows } = await fixture.database.db.query('select count(*)::int as count from checked')
  expect(rows).toEqual([{ count: 3 }])
})
