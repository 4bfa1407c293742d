import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { eventIdOf, publishEvent, publishEvents } from './actions.ts'
import { describeEvents } from './reference.ts'
import { listEvents, lockDueEvents, markHandedOut } from './store.ts'
import { EVENT_TYPES, eventTypes, type NewEvent } from './types.ts'

const database = testDatabase()
const at = new Date('2026-03-01T12:00:00Z')

function threshold(organizationId: string, percent: number): NewEvent {
  return {
    organizationId,
    type: 'usage.threshold_reached',
    key: `usage.threshold_reached:plan:credits:${percent}`,
    data: { ...eventTypes['usage.threshold_reached'].example, percent },
    occurredAt: at,
  }
}

async function keysOf(organizationId: string): Promise<string[]> {
  const events = await listEvents(database.db, { organizationId, type: null, before: null, limit: 100 })
  return events.map(({ key }) => key)
}

describe('an event', () => {
  it('is told once, however often and by however many it is published', async () => {
    const events = [50, 80, 100].map((percent) => threshold('often', percent))
    const counts = await Promise.all(
      Array.from({ length: 8 }, (_, index) =>
        database.db.transaction((tx) => publishEvents(tx, index % 2 === 0 ? events : events.toReversed())),
      ),
    )
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(3)
    expect(await keysOf('often')).toHaveLength(3)
    expect(await publishEvent(database.db, events[0]!)).toBe(0)
  })

  it('is there when its transaction is, and not otherwise', async () => {
    const failing = database.db.transaction(async (tx) => {
      await publishEvent(tx, threshold('undone', 50))
      throw new Error('no')
    })
    await expect(failing).rejects.toThrow('no')
    expect(await keysOf('undone')).toEqual([])
  })

  it('of the same key is another one in another organization', async () => {
    const [mine, yours] = [threshold('mine', 50), threshold('yours', 50)]
    expect(await publishEvents(database.db, [mine, yours])).toBe(2)
    expect(eventIdOf(mine)).not.toBe(eventIdOf(yours))
    expect(await keysOf('mine')).toEqual([mine.key])
  })

  it('keeps its data exactly', async () => {
    const data = {
      ...eventTypes['usage.threshold_reached'].example,
      used: '9007199254740993.000001',
      balance: 'a "quoted", \\ one',
    }
    await publishEvent(database.db, { ...threshold('exact', 1), type: 'usage.threshold_reached', data })
    const [event] = await listEvents(database.db, { organizationId: 'exact', type: null, before: null, limit: 1 })
    expect(event).toMatchObject({ data, occurredAt: at, handedOutAt: null })
  })

  it('is due until it was handed out, and for one server at a time', async () => {
    await database.db.query('update events set handed_out_at = $1 where handed_out_at is null', [at])
    await publishEvents(database.db, [threshold('due', 1), threshold('due', 2)])
    await database.db.transaction(async (tx) => {
      const [first] = await lockDueEvents(tx, 1)
      const others = await database.db.transaction((other) => lockDueEvents(other, 10))
      expect(others.map(({ id }) => id)).not.toContain(first!.id)
      expect(others).toHaveLength(1)
      await markHandedOut(tx, [first!.id], at)
    })
    const left = await database.db.transaction((tx) => lockDueEvents(tx, 10))
    expect(left).toHaveLength(1)
  })
})

it('every type of event has an example that fits its schema', () => {
  for (const type of EVENT_TYPES) expect(eventTypes[type].data.safeParse(eventTypes[type].example).error, type).toBeUndefined()
})

it('the reference says what is in a list, and in an object whose names are anybody’s', () => {
  expect(describeEvents()).toContain('| `entitlements` | object of boolean or number or string by name |')
  expect(describeEvents()).toContain('| `changed` | array of string |')
})

it('docs/events.md says what the types say', () => {
  const committed = readFileSync(new URL('../../../docs/events.md', import.meta.url), 'utf8')
  expect(committed, 'run: node scripts/generate-event-docs.ts').toBe(describeEvents())
})
