import { beforeAll, expect, test } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { writeAside } from '../../test/under-lock.ts'

// The last line of defence: what no grant may come to, whatever the code believes.

const database = testDatabase()

beforeAll(async () => {
  await database.db.query(`insert into organizations (id, name, email, created_at) values ('acme', '', '', now())`)
})

const COUNTS = [
  'amount',
  'used',
  'overage',
  'reserved',
  'revoked',
  'held_overage',
  'free_used',
  'free_overage',
  'priced_overage',
  'priced_minor',
  'used_elsewhere',
]
const GRANT = { id: 'plan:calls', kind: 'plan', limit_kind: 'hard', amount: 10 }

function keep(changed: Readonly<Record<string, unknown>>): Promise<unknown> {
  const grant: Readonly<Record<string, unknown>> = { ...GRANT, ...changed }
  const names = Object.keys(grant)
  return writeAside(database.db, (tx) =>
    tx.query(
      `insert into grants (organization_id, balance, priority, starts_at, created_at, ${names.join(', ')})
     values ('acme', 'calls', 0, now(), now(), ${names.map((_, index) => `$${index + 1}`).join(', ')})`,
      Object.values(grant),
    ),
  )
}

test.each(COUNTS)('a grant whose %s is below zero is not kept', async (column) => {
  await expect(keep({ [column]: -1 })).rejects.toThrow(/grants_(count_upwards|never_overdrawn)/)
})

test('a grant is not kept without an id, or with one of more than 200 characters', async () => {
  await expect(keep({ id: '' })).rejects.toThrow('grant_id_length')
  await expect(keep({ id: 'x'.repeat(201) })).rejects.toThrow('grant_id_length')
})

test('a grant is of a known kind, and its limit hard or soft', async () => {
  await expect(keep({ kind: 'gift' })).rejects.toThrow('grant_kind_known')
  await expect(keep({ limit_kind: 'firm' })).rejects.toThrow('grant_limit_kind_known')
})

test('no more of a grant is used, held and revoked than there is; one without an end has no such bound', async () => {
  await expect(keep({ used: 4, reserved: 4, revoked: 3 })).rejects.toThrow('grants_never_overdrawn')
  await keep({ used: 4, reserved: 4, revoked: 2 })
  await keep({ id: 'plan:unlimited', amount: null, used: 1_000_000 })
})
