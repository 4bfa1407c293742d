import { describe, expect, test } from 'vitest'
import { testCredits } from '../../test/credits.ts'
import { failing, KILLED } from '../../test/failing.ts'
import { makeRoom, refuseWrites } from '../../test/full-disk.ts'
import { SECOND_MS } from '../lib/period.ts'
import type { BillingContext } from '../stripe/context.ts'
import { StripeCallError } from '../stripe/gateway/errors.ts'
import { giveDueCredits, retryCredit } from './credits.ts'

const billing = testCredits()
const { givenTo } = billing
const { db } = billing.database

/** An organization with 140 calls of a paid month to be taken back, which cost 98 cents. */
async function mistaken(): Promise<string> {
  const { id, key } = await billing.paidMonth()
  await billing.correct(id, key, -140)
  return id
}

/** As it is kept and told: its state, and how often the audit log says that it was given. */
async function toldOf(id: string): Promise<object[]> {
  const { rows } = await db.query<object>(
    `select state, given_minor::int as minor, (select count(*)::int from audit_log
       where audit_log.organization_id = $1 and action = 'use.credited') as told from use_credits where organization_id = $1`,
    [id],
  )
  return rows
}

const dying = (at: 'before' | 'after') => failing(billing.context, at, 'credit_customer', KILLED)

describe('a credit whose server is killed', () => {
  test.each(['before', 'after'] as const)('%s Stripe’s call is given once, and told once', async (at) => {
    const id = await mistaken()
    await giveDueCredits(dying(at)).catch(() => undefined)
    expect(await toldOf(id)).toMatchObject([{ state: 'waiting', told: 0 }])
    await Promise.all([giveDueCredits(billing.context), giveDueCredits(billing.context)])
    await giveDueCredits(billing.context)
    expect(await givenTo(id)).toEqual([98])
    expect(await toldOf(id)).toEqual([{ state: 'given', minor: 98, told: 1 }])
  })

  test('once Stripe’s answer is stored, and before it is the credit’s, is given once', async () => {
    const id = await mistaken()
    await giveDueCredits(dying('before')).catch(() => undefined)
    await refuseWrites(db, 'use_credits')
    await giveDueCredits(billing.context).catch(() => undefined)
    await makeRoom(db)
    expect(await toldOf(id)).toMatchObject([{ state: 'waiting', told: 1 }])
    await giveDueCredits(billing.context)
    expect(await givenTo(id)).toEqual([98])
    expect(await toldOf(id)).toEqual([{ state: 'given', minor: 98, told: 1 }])
  })
})

describe('a credit that Stripe refused', () => {
  const refusing = () => {
    const refusal = new StripeCallError('stripe_failed', 'Stripe refused this request.', 'refused')
    return failing(billing.context, 'before', 'credit_customer', refusal)
  }
  async function refused(): Promise<{ id: string; credit: string }> {
    const id = await mistaken()
    await giveDueCredits(refusing())
    const { rows } = await db.query<{ id: string; state: string }>(
      'select id, state from use_credits where organization_id = $1',
      [id],
    )
    expect(rows).toMatchObject([{ state: 'failed' }])
    return { id, credit: rows[0]!.id }
  }
  const retry = (context: BillingContext, credit: string) =>
    retryCredit(context, credit, { actor: 'operator:test', requestId: null })

  test('is left to people also where the server is killed once the refusal is stored, and before it is the credit’s', async () => {
    const id = await mistaken()
    await giveDueCredits(dying('before')).catch(() => undefined)
    await refuseWrites(db, 'use_credits')
    await giveDueCredits(refusing()).catch(() => undefined)
    await makeRoom(db)
    expect(await toldOf(id)).toMatchObject([{ state: 'waiting' }])
    await giveDueCredits(billing.context)
    expect(await toldOf(id)).toEqual([{ state: 'failed', minor: 0, told: 0 }])
    expect(await givenTo(id)).toEqual([])
  })

  test('and that two operators give again at once is given once', async () => {
    const { id, credit } = await refused()
    const retried = await Promise.allSettled([retry(billing.context, credit), retry(billing.context, credit)])
    expect(retried.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected'])
    await Promise.all([giveDueCredits(billing.context), giveDueCredits(billing.context)])
    expect(await givenTo(id)).toEqual([98])
  })

  test('is given once when it is asked for again, also where the clock of the server that is killed over it is behind', async () => {
    const { id, credit } = await refused()
    await retry(billing.later(5 * SECOND_MS), credit)
    await giveDueCredits(dying('after')).catch(() => undefined)
    await giveDueCredits(billing.context)
    await giveDueCredits(billing.context)
    expect(await givenTo(id)).toEqual([98])
    expect(await toldOf(id)).toEqual([{ state: 'given', minor: 98, told: 1 }])
  })
})
