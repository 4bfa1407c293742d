import { expect, test } from 'vitest'
import { testDatabase } from '../../../test/database.ts'
import { openUsageConnections } from './pipeline.ts'

const database = testDatabase()

test.each([
  ['after the others', (writes: Promise<unknown>[], failing: Promise<unknown>) => [...writes, failing]],
  ['before the others', (writes: Promise<unknown>[], failing: Promise<unknown>) => [failing, ...writes]],
])('commits nothing when a write cannot be put into words, %s', async (_, inOrder) => {
  const connections = openUsageConnections({ connectionString: database.url, size: 1 })
  try {
    await connections.read((client) => client.query('create table if not exists written (value int)'))
    const wordless = (): Promise<void> =>
      Promise.resolve().then(() => {
        throw new TypeError('no words')
      })
    const transaction = connections.transaction((tx) =>
      Promise.resolve({ send: () => inOrder([tx.query('insert into written values (1)')], wordless()), result: null }),
    )
    await expect(transaction).rejects.toThrow('no words')
    const { rows } = await connections.read((client) => client.query('select value from written'))
    expect(rows).toEqual([])
  } finally {
    await connections.close()
  }
})
