import { expect, test } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { testRoutes } from '../../test/routes.ts'
import { publishEvents } from './actions.ts'
import { registerEventRoutes } from './routes.ts'
import { eventTypes } from './types.ts'

const database = testDatabase()
const call = testRoutes((app) => registerEventRoutes(app, { db: database.db }))
const PATH = '/api/v1/events'

async function publish(organizationId: string, count: number): Promise<void> {
  await publishEvents(
    database.db,
    Array.from({ length: count }, (_, percent) => ({
      organizationId,
      type: 'usage.threshold_reached' as const,
      key: `${percent}`,
      data: { ...eventTypes['usage.threshold_reached'].example, percent },
      occurredAt: new Date('2026-03-01T12:00:00Z'),
    })),
  )
}

type Page = { readonly events: readonly { readonly id: string }[]; readonly has_more: boolean }

async function read(organizationId: string, after?: string): Promise<Page> {
  const answer = await call(
    'GET',
    `${PATH}?limit=2${after === undefined ? '' : `&starting_after=${after}`}`,
    undefined,
    organizationId,
  )
  expect(answer.status).toBe(200)
  return answer.body as unknown as Page
}

test('events are read page by page, to their end', async () => {
  await publish('reader', 5)
  const seen: string[] = []
  for (let page = await read('reader'); ; page = await read('reader', seen.at(-1))) {
    seen.push(...page.events.map(({ id }) => id))
    if (!page.has_more) break
  }
  expect(new Set(seen).size).toBe(5)
})

test('after an event that was forgotten, never was, or is another’s, nothing begins again', async () => {
  await publish('forgetful', 3)
  await publish('foreign', 1)
  const [first, foreign] = [(await read('forgetful')).events[1]!, (await read('foreign')).events[0]!]
  await database.db.query('delete from events where id = $1', [first.id])
  for (const id of [first.id, 'evt_never', foreign.id]) {
    const answer = await call('GET', `${PATH}?starting_after=${id}`, undefined, 'forgetful')
    expect(answer).toMatchObject({ status: 400, body: { code: 'invalid_request', field: 'starting_after' } })
  }
})
