import { createHash } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { testRoutes } from '../../test/routes.ts'
import { openDatabase, type Db } from '../db/database.ts'
import { asSystem } from '../db/scope.ts'
import { createExports } from '../usage/exports.ts'
import { verifyAuditLog } from './actions.ts'
import { registerAuditRoutes } from './routes.ts'
import { insertAuditEntry, type AuditEntry } from './store.ts'

const database = testDatabase()
let db: Db
beforeAll(() => {
  db = openDatabase({ connectionString: database.url, scopeOutside: 'nobody' })
})
afterAll(() => db.close())
const call = testRoutes((app) => registerAuditRoutes(app, { db, exports: createExports(db) }))

function entryOf(organizationId: string | null, changed: Partial<AuditEntry> = {}): AuditEntry {
  return {
    organizationId,
    actor: 'operator:ann',
    action: 'account.overridden',
    target: 'thing',
    before: { plan: 'free', 'ключ "x"': [1.5, null] },
    after: null,
    requestId: 'req_1',
    at: new Date('2026-05-05T05:05:05.005Z'),
    ...changed,
  }
}

const write = (...entries: AuditEntry[]): Promise<void> =>
  asSystem(() =>
    db.transaction(async (tx) => {
      for (const entry of entries) await insertAuditEntry(tx, entry)
    }),
  )
const verify = (organizationId: string | null = null) => asSystem(() => verifyAuditLog(db, organizationId))

/** Past every trigger, as only a superuser may. */
async function tamper(statement: string, values: unknown[] = []): Promise<void> {
  await database.db.transaction(async (tx) => {
    await tx.query('set local session_replication_role = replica')
    await tx.query(statement, values)
  })
}

beforeEach(async () => {
  await tamper('delete from audit_log')
  await tamper('delete from audit_heads')
})

const idAt = async (organizationId: string, position: number): Promise<string> =>
  String(
    (await database.db.query('select id from audit_log where organization_id = $1 and position = $2', [organizationId, position]))
      .rows[0].id,
  )

describe('EM-14 the audit log', () => {
  it('is a chain for each organization, and one for what concerns none', async () => {
    await write(entryOf('acme'), entryOf('globex'), entryOf(null))
    await write(entryOf('acme', { before: null, requestId: null }))
    expect(await verify()).toEqual({ entries: 4, chains: 3, broken: null })
    expect(await verify('acme')).toEqual({ entries: 2, chains: 1, broken: null })
  })

  it('names the first entry of which a byte was changed', async () => {
    await write(entryOf('acme'), entryOf('acme'), entryOf('acme'), entryOf('globex'))
    for (const change of [
      `target = 'thinh'`,
      `before = jsonb_set(before, '{plan}', '"frew"')`,
      `after = '{}'`,
      `actor = 'operator:anm'`,
      `at = at + interval '1 millisecond'`,
      'request_id = null',
      `hash = set_byte(hash, 0, get_byte(hash, 0) # 1)`,
      `previous_hash = set_byte(previous_hash, 31, get_byte(previous_hash, 31) # 1)`,
    ]) {
      await database.db.transaction(async (tx) => {
        await tx.query('set local session_replication_role = replica')
        await tx.query(`update audit_log set ${change} where organization_id = 'acme' and position = 2`)
        const within = { transaction: <Result>(work: (inner: typeof tx) => Promise<Result>) => work(tx) }
        const { broken } = await verifyAuditLog(within, null)
        expect(broken, change).toEqual({
          fault: 'changed',
          organizationId: 'acme',
          id: BigInt(await idAt('acme', 2)),
          position: 2n,
        })
        await tx.query('close chains')
        await tx.query('rollback')
        await tx.query('begin')
      })
    }
    await tamper(`update audit_log set target = 'thinh' where organization_id = 'acme' and position = 2`)
    const answer = await call('GET', '/api/v1/audit-log/verification')
    expect(answer.body).toEqual({
      intact: false,
      entries: 1,
      chains: 1,
      broken: {
        fault: 'changed',
        detail: 'This entry does not say what it said when it was written.',
        organization_id: 'acme',
        id: await idAt('acme', 2),
        position: 2,
      },
    })
    expect((await call('GET', '/api/v1/audit-log/verification?organization_id=globex')).body).toMatchObject({
      intact: true,
      entries: 1,
    })
  })

  it('tells that an entry is gone: in the middle, at the end, all of them, or one too many', async () => {
    const three = (id: string) => write(entryOf(id), entryOf(id), entryOf(id))
    await three('a')
    await tamper(`delete from audit_log where organization_id = 'a' and position = 2`)
    expect((await verify()).broken).toMatchObject({ fault: 'missing', organizationId: 'a', position: 3n })
    await tamper(`delete from audit_log where organization_id = 'a'`)
    expect((await verify('a')).broken).toMatchObject({ fault: 'cut', organizationId: 'a', id: null })
    await tamper(`delete from audit_heads`)

    await three('b')
    await tamper(`delete from audit_log where organization_id = 'b' and position = 3`)
    expect((await verify('b')).broken).toMatchObject({ fault: 'cut', position: 2n })
    await tamper(`delete from audit_log where organization_id = 'b'`)
    await tamper(`delete from audit_heads`)

    await Promise.all(['b1', 'b2'].map(three))
    await tamper(`delete from audit_log where organization_id = 'b1' and position = 3`)
    expect((await verify()).broken).toMatchObject({ fault: 'cut', organizationId: 'b1' })
    await tamper(`delete from audit_log`)
    await tamper(`delete from audit_heads`)

    await three('c')
    await tamper(`insert into audit_log (organization_id, actor, action, target, at) values ('c', 'x', 'x', 'x', now())`)
    expect((await verify('c')).broken).toMatchObject({ fault: 'unchained' })
  })

  it('is never changed, not even by the owner of its table', async () => {
    await write(entryOf('acme'))
    for (const statement of [
      `update audit_log set actor = 'x'`,
      'update audit_log set hash = null, position = null',
      `update audit_log set hash = ''`,
      'delete from audit_log',
      'truncate audit_log',
      'delete from audit_heads',
      'truncate audit_heads',
    ]) {
      await expect(database.db.query(statement), statement).rejects.toThrow('the audit log is only ever added to')
    }
    for (const statement of [
      `update audit_log set actor = 'x'`,
      'delete from audit_log',
      `update audit_heads set position = 9`,
    ]) {
      await expect(
        asSystem(() => db.query(statement)),
        statement,
      ).rejects.toThrow('permission denied')
    }
    expect(await verify()).toMatchObject({ entries: 1, broken: null })
  })

  it('lets nobody say where an entry stands', async () => {
    await write(entryOf('acme'))
    await asSystem(() =>
      db.query(
        `insert into audit_log (organization_id, actor, action, target, at, position, previous_hash, hash)
         values ('acme', 'x', 'x', 'x', now(), 1, '\\x00', '\\x00')`,
      ),
    )
    expect(await verify()).toMatchObject({ entries: 2, broken: null })
  })

  it('keeps one chain of each organization while many write, in whatever order', async () => {
    const ids = ['acme', 'globex', 'initech']
    const rounds = Array.from({ length: 40 }, (_, index) => {
      const order = index % 2 === 0 ? ids : ids.toReversed()
      return write(...order.map((id) => entryOf(id, { target: `${index}` })))
    })
    await Promise.all(rounds)
    expect(await verify()).toEqual({ entries: 120, chains: 3, broken: null })
  })

  it('has no entry of a change that was not made', async () => {
    await write(entryOf('acme'))
    const failing = asSystem(() =>
      db.transaction(async (tx) => {
        await insertAuditEntry(tx, entryOf('acme'))
        throw new Error('no')
      }),
    )
    await expect(failing).rejects.toThrow('no')
    await write(entryOf('acme'))
    expect(await verify()).toMatchObject({ entries: 2, broken: null })
  })
})

describe('reading the audit log', () => {
  it('filters by organization, actor, action, target and time, and goes on where a page ended', async () => {
    await write(
      entryOf('acme', { target: '1' }),
      entryOf('acme', { target: '2', actor: 'api_key:k' }),
      entryOf('acme', { target: '3', action: 'api_key.revoked' }),
      entryOf('acme', { target: '4', at: new Date('2026-06-06T00:00:00Z') }),
      entryOf('globex', { target: '5' }),
    )
    const targets = async (query: string, as?: string): Promise<unknown> => {
      const { body } = await call('GET', `/api/v1/audit-log?${query}`, undefined, as)
      return (body['entries'] as { target: string }[]).map(({ target }) => target)
    }
    expect(await targets('')).toEqual(['5', '4', '3', '2', '1'])
    expect(await targets('organization_id=globex')).toEqual(['5'])
    expect(await targets('actor=api_key:k')).toEqual(['2'])
    expect(await targets('action=api_key.revoked')).toEqual(['3'])
    expect(await targets('target=4')).toEqual(['4'])
    expect(await targets('from=2026-06-01T00:00:00Z')).toEqual(['4'])
    expect(await targets('from=2026-06-06T00:00:00Z')).toEqual(['4'])
    expect(await targets('to=2026-06-06T00:00:00Z&organization_id=acme')).toEqual(['3', '2', '1'])
    expect(await targets('to=2026-06-01T00:00:00Z&organization_id=acme')).toEqual(['3', '2', '1'])
    expect(await targets('', 'globex')).toEqual(['5'])
    const first = await call('GET', '/api/v1/audit-log?limit=2')
    const cursor = String(first.body['next_cursor'])
    expect(await targets(`limit=2&cursor=${cursor}`)).toEqual(['3', '2'])
    expect((await call('GET', '/api/v1/audit-log?limit=5')).body['next_cursor']).toBeNull()
  })

  it('shows an organization its own entries alone', async () => {
    await write(entryOf('acme'), entryOf('globex'))
    expect((await call('GET', '/api/v1/audit-log?organization_id=acme', undefined, 'globex')).status).toBe(404)
    expect((await call('GET', '/api/v1/audit-log/verification', undefined, 'globex')).body).toMatchObject({
      intact: true,
      entries: 1,
    })
    expect(await file('ndjson', 'globex')).not.toContain('acme')
  })

  it('is exported so that anybody can verify it', async () => {
    await write(entryOf('acme'), entryOf('acme', { target: 'ünïcode' }))
    const lines = (await file('ndjson')).trimEnd().split('\n')
    let previous = '0'.repeat(64)
    for (const line of lines) {
      const { content, hash, previous_hash } = JSON.parse(line) as Record<string, string>
      expect(previous_hash).toBe(previous)
      expect(createHash('sha256').update(Buffer.from(previous, 'hex')).update(content!).digest('hex')).toBe(hash)
      previous = hash!
    }
    expect(lines).toHaveLength(2)
  })

  it('is exported as CSV that a spreadsheet does not run', async () => {
    await write(...['=1+1', '+1', '-1+1', '@x', '\tx', '\rx'].map((target) => entryOf('acme', { target })))
    const [header, ...rows] = (await file('csv')).trimEnd().split(/\r\n/)
    expect(header).toBe('id,at,organization_id,actor,action,target,before,after,request_id,position,previous_hash,hash')
    expect(rows.map((row) => row.split(',')[5])).toEqual([`'=1+1`, `'+1`, `'-1+1`, `'@x`, `'\tx`, `"'\rx"`])
  })
})

async function file(format: string, as = 'operator'): Promise<string> {
  return call.text('GET', `/api/v1/audit-log/export?format=${format}`, as)
}
