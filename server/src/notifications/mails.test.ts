import { beforeEach, describe, expect, it } from 'vitest'
import { testDatabase } from '../../test/database.ts'
import { publishEvent } from '../events/actions.ts'
import { eventTypes, EVENT_TYPES, type EventData } from '../events/types.ts'
import { ManualClock } from '../lib/clock.ts'
import { DAY_MS } from '../lib/period.ts'
import { createSeal } from '../lib/seal.ts'
import { listMails, type MailRow } from '../mail/store.ts'
import { choose, readPreferences, readStopToken, stopToken } from './actions.ts'
import { handOutEvents } from './hand-out.ts'
import { NOTIFICATION_KINDS, notificationKinds } from './kinds.ts'
import { kindOf, messageOf } from './templates.ts'

const database = testDatabase()
const clock = new ManualClock(new Date('2026-03-01T12:00:00Z'))
const context = {
  db: database.db,
  clock,
  mailing: {
    billingUrl: 'https://billing.example.com/billing',
    stopUrl: ({ kind, recipient }: { kind: string; recipient: string }) =>
      `https://billing.example.com/stop/${recipient}/${kind}`,
    onUnwritable: (_eventId: string, error: unknown) => {
      throw error
    },
  },
}

beforeEach(async () => {
  await database.db.query('truncate mails, events, notification_preferences, organization_members, users, organizations cascade')
  await database.db.query(
    `insert into organizations (id, name, email, created_at) values ('acme', 'Acme & Sons', 'billing@acme.example', $1)`,
    [clock.now()],
  )
})

async function addMember(id: string, email: string): Promise<void> {
  await database.db.query('insert into users (id, name, email, email_verified) values ($1, $1, $2, true)', [id, email])
  await database.db.query(
    `insert into organization_members (organization_id, user_id, role, created_at) values ('acme', $1, 'member', $2)`,
    [id, clock.now()],
  )
}

async function tellDunning(step: EventData<'dunning.reminder'>['step'], occurredAt = clock.now()): Promise<void> {
  const data = { ...eventTypes['dunning.reminder'].example, step }
  await publishEvent(database.db, { organizationId: 'acme', type: 'dunning.reminder', key: `dunning:${step}`, data, occurredAt })
}

async function tellThreshold(percent: number): Promise<void> {
  const data = { ...eventTypes['usage.threshold_reached'].example, percent }
  const key = `usage.threshold_reached:${percent}`
  await publishEvent(database.db, { organizationId: 'acme', type: 'usage.threshold_reached', key, data, occurredAt: clock.now() })
}

async function mails(): Promise<readonly MailRow[]> {
  while ((await handOutEvents(context)) > 0);
  return listMails(database.db, { organizationId: 'acme', recipient: null, state: null, limit: 50 })
}

const addressesOf = (rows: readonly MailRow[]): string[] => rows.map(({ recipient }) => recipient).sort()

describe('an event that people are mailed about', () => {
  it('is the highest of the thresholds that were reached at once, and each that was reached by itself', async () => {
    for (const percent of [50, 80, 100]) await tellThreshold(percent)
    expect((await mails()).map(({ subject }) => subject)).toEqual(['Your allowance of credits is used up'])
    await tellThreshold(120)
    expect(await mails()).toHaveLength(2)
  })

  it('calls a balance by its name, and by its key where the event is from before it had the name', () => {
    const sample = { name: 'Acme', billingUrl: 'https://billing.example.com' }
    for (const type of ['usage.threshold_reached', 'usage.balance_low', 'auto_top_up.stopped'] as const) {
      const data = { ...eventTypes[type].example, balance: 'api' }
      expect(messageOf(type, { ...data, balance_name: 'API calls' }, sample)!.subject).toMatch(/ of API calls is /)
      expect(messageOf(type, { ...data, balance_name: undefined }, sample)!.subject).toMatch(/ of api is /)
    }
  })

  it('speaks of a balance in words that are right for one thing, many and what cannot be counted', () => {
    const sample = { name: 'Acme', billingUrl: 'https://billing.example.com' }
    const said = (type: 'usage.threshold_reached' | 'usage.balance_low' | 'auto_top_up.stopped', given: object) => {
      const { subject, preview, paragraphs } = messageOf(
        type,
        { ...eventTypes[type].example, balance_name: 'storage', ...given },
        sample,
      )!
      return [subject, preview, paragraphs[0]]
    }
    const reached = { used: 80, amount: 100, period_end: '2026-04-01T00:00:00Z' }
    expect(said('usage.threshold_reached', { ...reached, percent: 80 })).toEqual([
      '80 % of your allowance of storage is used',
      '80 of 100 used.',
      'Acme has used 80 % of its allowance of storage in this period.',
    ])
    expect(said('usage.threshold_reached', { ...reached, percent: 100, period_end: null })).toEqual([
      'Your allowance of storage is used up',
      '80 of 100 used.',
      'Acme has used 100 % of its allowance of storage.',
    ])
    expect(said('usage.balance_low', { remaining: 1 })).toEqual([
      'Your balance of storage is low',
      '1 left.',
      'The balance of storage is low: Acme has 1 left.',
    ])
    expect(said('auto_top_up.stopped', { code: 'invalid_request' })[0]).toBe('Your balance of storage is no longer topped up')
  })

  it('says why nothing is bought by itself any more: a payment, a package that is sold no more, an address that is missing', () => {
    const sample = { name: 'Acme', billingUrl: 'https://billing.example.com' }
    const { example } = eventTypes['auto_top_up.stopped']
    const said = (code: string): string => JSON.stringify(messageOf('auto_top_up.stopped', { ...example, code }, sample))
    expect(said('payment_failed')).toMatch(/A payment failed/)
    expect(said('invalid_request')).toMatch(/is no longer sold/)
    expect(said('invalid_request')).not.toMatch(/payment/i)
    expect(said('tax_location_missing')).toMatch(/until it is there/)
    expect(said('tax_location_missing')).not.toMatch(/payment/i)
  })

  it('calls a plan by its name, and by its key where the event is from before it had the name', () => {
    const sample = { name: 'Acme', billingUrl: 'https://billing.example.com' }
    const data = { ...eventTypes['subscription.trial_will_end'].example, plan: 'pro_2' }
    const said = (planName: string | undefined): string =>
      JSON.stringify(messageOf('subscription.trial_will_end', { ...data, plan_name: planName }, sample))
    expect(said('Professional')).toMatch(/Your trial of Professional ends/)
    expect(said('Professional')).not.toContain('pro_2')
    expect(said(undefined)).toMatch(/Your trial of pro_2 ends/)
  })

  it('KF-13 reaches the billing address once, however often and by however many it is handed out', async () => {
    await Promise.all([1, 2, 3].map(() => tellDunning('last_warning')))
    await Promise.all([1, 2, 3, 4].map(() => handOutEvents(context)))
    const [mail, ...others] = await mails()
    expect(others).toEqual([])
    expect(mail).toMatchObject({
      kind: 'payment',
      recipient: 'billing@acme.example',
      subject: 'Use stops tomorrow unless you pay',
    })
    expect(mail!.text).toContain('Pay $29.00:\nhttps://invoice.stripe.com/i/1')
    expect(mail!.text).toContain('4 March 2026')
    expect(mail!.html).toContain('Acme &amp; Sons')
  })

  it('has a mail with a subject, a text and a way on for every type and every step', () => {
    const sample = { name: 'Acme', billingUrl: 'https://billing.example.com' }
    const mailed = EVENT_TYPES.filter((type) => kindOf(type) !== null)
    expect(new Set(mailed.map(kindOf))).toEqual(new Set(NOTIFICATION_KINDS))
    for (const type of mailed) {
      const message = messageOf(type, eventTypes[type].example, sample)
      expect(message).toMatchObject({ action: { url: expect.stringMatching(/^https/) as string } })
      expect(JSON.stringify(message)).not.toMatch(/undefined|null|NaN|Invalid/)
    }
    const steps = eventTypes['dunning.reminder'].data.shape.step.options
    const subjects = steps.map(
      (step) => messageOf('dunning.reminder', { ...eventTypes['dunning.reminder'].example, step }, sample)!.subject,
    )
    expect(new Set(subjects).size).toBe(steps.length)
    expect(messageOf('invoice.created', eventTypes['invoice.created'].example, sample)).toBeNull()
  })

  it('says of a payment that was charged back how much it is about and what to do', () => {
    const charged_back = { dispute_id: 'dp_1', amount_minor: 2900, currency: 'usd' }
    const write = (step: 'failed' | 'suspended') =>
      messageOf(
        'dunning.reminder',
        { ...eventTypes['dunning.reminder'].example, step, amount_due_minor: null, recovery_url: null, charged_back },
        { name: 'Acme', billingUrl: 'https://billing.example.com' },
      )!
    expect(write('failed')).toMatchObject({
      subject: 'A payment of $29.00 was charged back',
      action: { label: 'Pay $29.00', url: 'https://billing.example.com' },
    })
    expect(write('failed').paragraphs.join(' ')).toMatch(/disputed at your bank.*Use goes on until .*Pay it again/)
    expect(write('suspended').paragraphs.join(' ')).toContain(
      'Use has stopped. Nothing is lost: paying it again starts it at once.',
    )
  })

  it('writes money exactly, in its own currency', () => {
    const owed = (amount_due_minor: number, currency: string) =>
      messageOf(
        'dunning.reminder',
        { ...eventTypes['dunning.reminder'].example, amount_due_minor, currency },
        { name: '', billingUrl: '' },
      )!.action!.label
    expect([owed(1, 'usd'), owed(123_456_789, 'eur'), owed(500, 'jpy'), owed(1_234, 'kwd')]).toEqual([
      'Pay $0.01',
      'Pay €1,234,567.89',
      'Pay ¥500',
      'Pay KWD\u00a01.234',
    ])
  })

  it('is no news any more after a week: what an import brings to light is not mailed', async () => {
    await tellDunning('failed', new Date(clock.now().getTime() - 8 * DAY_MS))
    expect(await mails()).toEqual([])
  })

  it('is news by the organization’s own clock', async () => {
    const then = new Date('2031-01-01T00:00:00Z')
    await database.db.query(`update organizations set test_clock_now = $1`, [then])
    await tellDunning('failed', new Date(then.getTime() - DAY_MS))
    expect(await mails()).toHaveLength(1)
  })
})

describe('who is mailed', () => {
  it('is the billing address, and the members who asked for it while they are members', async () => {
    await addMember('ann', 'ann@acme.example')
    await addMember('bob', 'bob@acme.example')
    await choose(database.db, { organizationId: 'acme', recipient: 'ann', kind: 'usage', wanted: true })
    await tellThreshold(80)
    expect(addressesOf(await mails())).toEqual(['ann@acme.example', 'billing@acme.example'])
    await database.db.query(`delete from organization_members where user_id = 'ann'`)
    await tellThreshold(100)
    expect(addressesOf(await mails())).toEqual(['ann@acme.example', 'billing@acme.example', 'billing@acme.example'])
  })

  it('is mailed once where the billing address is a member’s', async () => {
    await addMember('ann', 'Billing@acme.example')
    await choose(database.db, { organizationId: 'acme', recipient: 'ann', kind: 'usage', wanted: true })
    await tellThreshold(80)
    expect(await mails()).toHaveLength(1)
  })

  it('can decline every kind but what has to be told', async () => {
    for (const kind of NOTIFICATION_KINDS) {
      const declining = choose(database.db, { organizationId: 'acme', recipient: 'billing', kind, wanted: false })
      const outcome = await declining.then(
        () => 'declined',
        () => 'refused',
      )
      expect([kind, outcome]).toEqual([kind, notificationKinds[kind].required ? 'refused' : 'declined'])
    }
    await tellThreshold(80)
    await tellDunning('failed')
    const [mail, ...others] = await mails()
    expect([mail!.kind, others]).toEqual(['payment', []])
    expect(mail!.text).not.toContain('No more mails')
    const preferences = await readPreferences(database.db, 'acme', 'billing')
    expect(preferences.filter(({ wanted }) => wanted).map(({ kind }) => kind)).toEqual(['payment', 'subscription'])
  })

  it('finds in each other mail the way to have no more of its kind', async () => {
    await tellThreshold(80)
    const [mail] = await mails()
    expect(mail!.text).toContain('https://billing.example.com/stop/billing/usage')
  })
})

it('a link that declines is good for what it names, and cannot be made up', () => {
  const seal = createSeal('the secret of this server', 'links')
  const named = { organizationId: 'acme', recipient: 'billing', kind: 'usage' } as const
  const token = stopToken(seal, named)
  expect(token).toMatch(/^[\w-]+$/)
  expect(readStopToken(seal, token)).toEqual(named)
  for (const bad of ['', 'x', token.slice(0, -2), stopToken(createSeal('another secret', 'links'), named)]) {
    expect(() => readStopToken(seal, bad)).toThrow(/not complete/)
  }
})
