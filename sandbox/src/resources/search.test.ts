import { expect, test } from 'vitest'
import { startTestSandbox } from '../../test/contract.ts'

async function withCustomers() {
  const started = await startTestSandbox()
  const { stripe } = started
  await stripe.customers.create({ email: 'ada@example.com', name: 'Ada Lovelace', metadata: { tier: 'pro' } })
  await stripe.customers.create({ email: 'bob@example.com', name: 'Bob "the builder"', metadata: { tier: 'free' } })
  await stripe.customers.create({ email: 'cyd@example.org', phone: '+3912345' })
  const names = async (query: string) => (await stripe.customers.search({ query })).data.map(({ email }) => email?.slice(0, 3))
  return { ...started, names }
}

test('finds by exact value, part, metadata, absence, and negation', async () => {
  const { names } = await withCustomers()
  expect(await names('email:"ADA@example.com"')).toEqual(['ada'])
  expect(await names('email~"example.com"')).toEqual(['bob', 'ada'])
  expect(await names(`metadata["tier"]:'pro'`)).toEqual(['ada'])
  expect(await names('name:"Bob \\"the builder\\""')).toEqual(['bob'])
  expect(await names('name:null')).toEqual(['cyd'])
  expect(await names('-metadata["tier"]:null')).toEqual(['bob', 'ada'])
  expect(await names('-email~"example.com"')).toEqual(['cyd'])
})

test('joins clauses by AND (also left out) or OR, not both', async () => {
  const { names } = await withCustomers()
  expect(await names('email~"example.com" AND metadata["tier"]:"free"')).toEqual(['bob'])
  expect(await names('email~"example.com" metadata["tier"]:"free"')).toEqual(['bob'])
  expect(await names('name:"Ada Lovelace" OR phone:"+3912345"')).toEqual(['cyd', 'ada'])
  await expect(names('name:"a" AND name:"b" OR name:"c"')).rejects.toMatchObject({ param: 'query' })
})

test('compares times, and refuses what it cannot read', async () => {
  const { names } = await withCustomers()
  expect(await names('created>0')).toHaveLength(3)
  expect(await names('created<1000')).toEqual([])
  for (const query of ['', 'email', 'email:"x" AND', 'nonsense:"x"', 'email>"x"', 'email~"x"']) {
    await expect(names(query), query).rejects.toMatchObject({ statusCode: 400 })
  }
})

test('pages through results and counts them on request', async () => {
  const { stripe } = await withCustomers()
  const first = await stripe.customers.search({ query: 'created>0', limit: 2, expand: ['total_count'] })
  expect([first.data.length, first.has_more, first.total_count]).toEqual([2, true, 3])
  const all = await stripe.customers.search({ query: 'created>0', limit: 2 }).autoPagingToArray({ limit: 10 })
  expect(new Set(all.map(({ id }) => id)).size).toBe(3)
})
