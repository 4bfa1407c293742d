import { expect, test } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { systemClock } from '../lib/clock.ts'
import { identityJobs } from './jobs.ts'

const database = testDatabase()

test('counters of attempts and unused links are forgotten when they have no say any more', async () => {
  const { db } = database
  await db.query(`insert into auth_rate_limits (id, key, count, last_request)
    select name, name, 1, (extract(epoch from now() - age) * 1000)::bigint
    from (values ('resting', interval '2 hours'), ('counting', interval '1 minute')) limits (name, age)`)
  await db.query(`insert into user_verifications (id, identifier, value, expires_at, updated_at)
    select name, name, '', now() - age, now() from (values ('unused', interval '2 days'), ('valid', interval '-1 hour')) links (name, age)`)
  for (const job of identityJobs({ db, clock: systemClock })) await job.run()
  const { rows } = await db.query('select id from auth_rate_limits union all select id from user_verifications order by id')
  expect(rows).toEqual([{ id: 'counting' }, { id: 'valid' }])
})
