import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { packetClient, type PacketClient } from './packet.ts'

const database = testDatabase()
let client: pg.Client
let packets: PacketClient

beforeAll(async () => {
  client = new pg.Client({ connectionString: database.url, types: { getTypeParser } })
  await client.connect()
  packets = packetClient(client)
})

afterAll(() => client.end())

function getTypeParser(id: number, format?: 'text' | 'binary') {
  return id === 20 ? BigInt : pg.types.getTypeParser(id, format)
}

const VALUES = `select * from (values
    (1, 9223372036854775807::bigint, true, 'name', timestamptz '2026-03-10 12:00:00.123456+00', '{"a":[1]}'::jsonb, array['a','b"c'], 1.5::numeric),
    (2, -9223372036854775808, false, 'name', '1969-12-31 23:59:59.9995+00', null, '{}', null),
    (3, -1, null, 'né 😀', 'infinity', '"x"', array['é', null], 0),
    (4, 0, true, '', '-infinity', 'null', null, -1e20),
    (-5, null, true, 'n', '0044-03-15 12:00:00+00 BC', '1', null, 3),
    (6, 7, true, repeat('long ', 50), '9999-12-31 23:59:59.999+00', '1', null, 3),
    (7, 7, true, repeat('long ', 50), '1600-01-01 00:00:00.000001+00', '1', null, 3)
  ) as v (int4, int8, bool, text, timestamptz, jsonb, texts, numeric) cross join (select 'x'::varchar as varchar, 2::float8 as float8) as x`

describe('a packet', () => {
  it('reads every type as `pg` does, in text the first time and in binary afterwards', async () => {
    const { rows: expected } = await client.query<object>(VALUES)
    for (let time = 0; time < 3; time += 1) expect((await packets.query({ name: 'values', text: VALUES })).rows).toEqual(expected)
    expect((await packets.query(VALUES)).rows).toEqual(expected)
  })

  it('sends text, bytes, times, numbers, lists and nothing as they are', async () => {
    const values = ['né "\\', Buffer.from([0, 255]), new Date('2026-03-10T12:00:00.123Z'), 5n, ['a', 'b"\\', null], null]
    const text = 'select $1::text as a, $2::bytea as b, $3::timestamptz as c, $4::bigint as d, $5::text[] as e, $6::text as f'
    for (const name of ['', 'sent', 'sent']) {
      const { rows } = await packets.query({ name, text, values })
      expect(Object.values(rows[0] as object)).toEqual(values)
    }
  })

  it('sends lists as they are, as text the first time and in binary afterwards', async () => {
    const text = 'select $1::text[] as a, $2::bigint[] as b, $3::timestamptz[] as c, $4::integer[] as d'
    const moments = ['2026-03-10T12:00:00.123Z', '1969-12-31T23:59:59.999Z', '1600-01-01T00:00:00.001Z'].map((at) => new Date(at))
    const lists: unknown[][][] = [
      [['né "\\', '', 'x'.repeat(3_000)], [2n ** 63n - 1n, -(2n ** 63n), 0n], moments, [1, 2]],
      [
        ['a', null],
        [1n, null],
        [moments[0]!, null],
        [3, null],
      ],
      [[], [], [], []],
      [['null'], [5n], [new Date('9999-12-31T23:59:59.999Z')], [4]],
    ]
    for (let time = 0; time < 3; time += 1) {
      for (const few of lists) {
        // Only lists that are long enough to be worth it go in binary.
        const values = time === 0 ? few : few.map((list) => Array.from({ length: 8 }, () => list).flat())
        const { rows } = await packets.query({ name: 'lists', text, values })
        // `pg` reads a bigint[] as a list of texts.
        const [a, b, c, d] = values
        expect(rows).toEqual([{ a, b: b!.map((value) => (typeof value === 'bigint' ? String(value) : null)), c, d }])
      }
    }
    const eight = <Value>(value: Value): Value[] => Array.from({ length: 8 }, () => value)
    const others = [eight('a'), eight(1), eight(moments[0]!.toISOString()), eight('7')]
    const { rows } = await packets.query({ name: 'lists', text, values: others })
    expect(rows).toEqual([{ a: eight('a'), b: eight('1'), c: eight(moments[0]), d: eight(7) }])
  })

  it('carries statements and answers of any size', async () => {
    const long = 'é'.repeat(400_000)
    const text = 'select $1::text as long, n from generate_series(1, 5) as n'
    for (let time = 0; time < 2; time += 1) {
      const [{ rows }, counted] = await Promise.all([
        packets.query({ name: 'long', text, values: [long] }),
        packets.query({ name: 'many', text: 'select n::bigint from generate_series(1, 50000) as n' }),
      ])
      expect(rows.map((row) => row.long === long)).toEqual([true, true, true, true, true])
      expect([counted.rowCount, counted.rows.at(-1)]).toEqual([50_000, { n: 50_000n }])
    }
  })

  it('fails as a whole with the error of the statement at fault, and the next one works, prepared anew where that is unsure', async () => {
    const ask = () => [
      packets.query({ name: 'before', text: 'select 1 as one' }),
      packets.query({ name: 'fails', text: 'select 1 / $1::int as q', values: [0] }),
      packets.query({ name: 'after', text: 'select 2::bigint as two' }),
    ]
    for (let time = 0; time < 2; time += 1) {
      for (const result of await Promise.allSettled(ask())) {
        expect(result).toMatchObject({ status: 'rejected', reason: { code: '22012', routine: 'int4div' } })
      }
    }
    expect((await packets.query({ name: 'fails', text: 'select 1 / $1::int as q', values: [1] })).rows).toEqual([{ q: 1 }])
    expect((await packets.query({ name: 'after', text: 'select 2::bigint as two' })).rows).toEqual([{ two: 2n }])
  })

  it('prepares a statement anew whose table has changed, or whose preparation was thrown away', async () => {
    await client.query('create temp table changing (a integer); insert into changing values (1)')
    const ask = () => packets.query<{ a: unknown }>({ name: 'changing', text: 'select a from changing' })
    for (let time = 0; time < 2; time += 1) expect((await ask()).rows).toEqual([{ a: 1 }])
    await client.query('alter table changing alter a type text')
    await expect(ask()).rejects.toMatchObject({ code: '0A000' })
    expect((await ask()).rows).toEqual([{ a: '1' }])
    await client.query('deallocate all')
    await expect(ask()).rejects.toMatchObject({ code: '26000' })
    expect((await ask()).rows).toEqual([{ a: '1' }])
  })

  it('leaves to `pg` what is not its own: notices, notifications, other queries between', async () => {
    const heard: unknown[] = []
    client.on('notice', ({ message }) => heard.push(message))
    client.on('notification', ({ payload }) => heard.push(payload))
    await client.query('listen news')
    const [, { rows }] = await Promise.all([
      packets.query(`do $$ begin raise notice 'said within'; end $$`),
      packets.query({ name: 'told', text: `select pg_notify('news', 'told')` }),
    ])
    expect(rows).toHaveLength(1)
    expect((await client.query('select 3::bigint as three')).rows).toEqual([{ three: 3n }])
    expect(heard).toEqual(['said within', 'told'])
  })

  it('rejects what it asked for when the connection is cut', async () => {
    const lost = new pg.Client({ connectionString: database.url })
    lost.on('error', () => {})
    await lost.connect()
    const own = packetClient(lost)
    const { rows } = await own.query('select pg_backend_pid() as pid')
    const asked = own.query({ name: 'sleep', text: 'select pg_sleep(60)' })
    const [told] = await Promise.allSettled([
      asked,
      client.query('select pg_terminate_backend($1)', [(rows[0] as { pid: number }).pid]),
    ])
    expect(told).toMatchObject({ status: 'rejected', reason: { code: '57P01' } })
    await lost.end()
  })
})
