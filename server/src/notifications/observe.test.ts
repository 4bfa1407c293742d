import { describe, expect, it } from 'vitest'
import { testSubscriptions } from '../../test/subscriptions.ts'
import { listEvents, type EventRow } from '../events/store.ts'
import type { EventType } from '../events/types.ts'
import { ManualClock, systemClock } from '../lib/clock.ts'
import { DAY_MS, HOUR_MS } from '../lib/period.ts'
import { observeAccount, observeDueAccounts } from './observe.ts'
import { messageOf } from './templates.ts'

const billing = testSubscriptions()
const { advance, invoicesOf, onClock, post, subscriptionOf, succeed } = billing

/** Past the renewal: Stripe finalizes an invoice an hour after the period has ended. */
async function renew(id: string): Promise<void> {
  const body = await subscriptionOf(id)
  await advance(id, new Date(new Date(String(body['current_period_end'])).getTime() + 2 * HOUR_MS))
}

/** A card that is valid to the end of the month after next, by the sandbox's own clock, which is the machine's. */
async function expiringCard(): Promise<{ card: string; expiresAt: Date }> {
  const now = systemClock.now()
  const expiresAt = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 3, 1))
  const lastDay = new Date(expiresAt.getTime() - DAY_MS)
  const [exp_month, exp_year] = [lastDay.getUTCMonth() + 1, lastDay.getUTCFullYear()]
  const card = { number: '4242424242424242', cvc: '123', exp_month, exp_year }
  const { id } = await billing.stripe.paymentMethods.create({ type: 'card', card })
  return { card: id, expiresAt }
}

const replaceCard = (id: string, card: string) => post(id, 'payment-methods', { payment_method_id: card })

/** Oldest first. */
async function eventsOf(organizationId: string, ...types: EventType[]): Promise<EventRow[]> {
  const events = await listEvents(billing.database.db, { organizationId, type: null, before: null, limit: 200 })
  return events.toReversed().filter(({ type }) => types.length === 0 || types.includes(type))
}

async function changesOf(id: string): Promise<string[]> {
  const events = await eventsOf(id, 'customer.state_changed')
  return events.map(({ data }) => {
    const { before, after } = data as { before: { state: string } | null; after: { state: string; plan: string } }
    return `${before?.state ?? 'nothing'} → ${after.state} (${after.plan})`
  })
}

async function stepsOf(id: string): Promise<string[]> {
  return (await eventsOf(id, 'dunning.reminder')).map(({ data }) => data['step'] as string)
}

/** A trial until 20 May that an operator has given on the first. */
async function givenTrial(id: string) {
  const clock = new ManualClock(new Date('2026-05-01T00:00:00Z'))
  await billing.createOrganization(id)
  const context = { ...billing.context, clock, graceDays: 3, dunningDays: [1] }
  await billing.call('operator', 'PATCH', `/api/v1/admin/billing/${id}`, {
    plan: 'pro',
    billing_status: 'trialing',
    trial_ends_at: '2026-05-20T00:00:00Z',
    reason: 'a demonstration',
  })
  await billing.context.db.transaction((tx) => observeAccount(tx, context, id))
  return { clock, context }
}

describe('a trial', () => {
  it('EM-6 is announced three days before its end, once, by the organization’s clock', async () => {
    const id = await onClock('trying')
    await succeed(id, 'subscribe', { tier: 'starter' })
    await advance(id, '10d')
    expect(await eventsOf(id, 'subscription.trial_will_end')).toEqual([])
    await advance(id, '1d')
    const [notice] = await eventsOf(id, 'subscription.trial_will_end')
    const { trial_ends_at: endsAt } = notice!.data as { trial_ends_at: string }
    expect(notice!.data).toMatchObject({ plan: 'starter', plan_name: 'Starter', payment_method_configured: false })
    expect(new Date(endsAt).getTime() - notice!.occurredAt.getTime()).toBe(3 * DAY_MS)
    await advance(id, '1d')
    await billing.call('operator', 'POST', `/api/v1/organizations/${id}/reconcile`)
    expect(await eventsOf(id, 'subscription.trial_will_end')).toHaveLength(1)
    await advance(id, '3d')
    expect(await changesOf(id)).toEqual(['free → trialing (starter)', 'trialing → free (free)'])
    const types = (await eventsOf(id)).map(({ type }) => type)
    expect(types).toContain('subscription.created')
    expect(types).toContain('subscription.canceled')
  })

  it('EM-6 that was cancelled is announced as one that ends with the plan, card or not', async () => {
    const id = await onClock('trying_cancelled')
    await succeed(id, 'subscribe', { tier: 'starter', trial_period_days: 14, payment_method_id: 'pm_card_visa' })
    await post(id, 'cancel', { immediate: false })
    await advance(id, '12d')
    const [notice] = await eventsOf(id, 'subscription.trial_will_end')
    const { trial_ends_at: endsAt, cancel_at: cancelAt } = notice!.data as { trial_ends_at: string; cancel_at: string }
    expect(cancelAt).toBe(endsAt)
    const mail = messageOf('subscription.trial_will_end', notice!.data, { name: 'Acme', billingUrl: 'http://localhost/billing' })
    expect(mail!.paragraphs.join(' ')).toContain('the plan ends with it, as you have cancelled')
    expect(`${mail!.preview} ${mail!.paragraphs.join(' ')}`).not.toContain('goes on as a subscription')
  })

  it('EM-6 asks nobody for a payment method who has one, be it a card or a bank account', async () => {
    const wordsOf = async (id: string, method: object) => {
      await onClock(id)
      await succeed(id, 'subscribe', { tier: 'starter', trial_period_days: 14, ...method })
      await advance(id, '12d')
      const [notice] = await eventsOf(id, 'subscription.trial_will_end')
      const { data } = notice!
      const mail = messageOf('subscription.trial_will_end', data, { name: 'Acme', billingUrl: 'http://localhost/billing' })!
      return { configured: data['payment_method_configured'], says: mail.paragraphs.join(' '), button: mail.action?.label }
    }
    const goesOn = expect.stringContaining('goes on as a subscription, paid with the payment method that you gave')
    for (const [id, method] of [
      ['trying_by_card', 'pm_card_visa'],
      ['trying_by_debit', 'pm_usBankAccount_success'],
    ] as const) {
      const words = await wordsOf(id, { payment_method_id: method })
      expect(words).toEqual({ configured: true, says: goesOn, button: 'See your billing' })
    }
    const asked = { configured: false, says: expect.stringContaining('Add a payment method before') }
    expect(await wordsOf('trying_by_nothing', {})).toMatchObject(asked)
  })

  it('EM-6 is announced late, while it still runs, where nobody looked when it was time', async () => {
    const id = await onClock('late_notice')
    await succeed(id, 'subscribe', { tier: 'starter' })
    await advance(id, '13d')
    const [notice] = await eventsOf(id, 'subscription.trial_will_end')
    const { trial_ends_at: endsAt } = notice!.data as { trial_ends_at: string }
    expect(new Date(endsAt).getTime() - notice!.occurredAt.getTime()).toBe(DAY_MS)
    await advance(id, '1h')
    expect(await eventsOf(id, 'subscription.trial_will_end')).toHaveLength(1)
  })

  it('EM-6 is not announced any more once it has ended: what came of it is told instead', async () => {
    const id = await onClock('no_notice')
    await succeed(id, 'subscribe', { tier: 'starter' })
    await advance(id, '15d')
    expect(await eventsOf(id, 'subscription.trial_will_end')).toEqual([])
    expect(await eventsOf(id, 'subscription.canceled')).toHaveLength(1)
    expect(await changesOf(id)).toEqual(['free → trialing (starter)', 'trialing → free (free)'])
  })

  it('EM-6 of an outage: who comes back before the end announces it then, who comes back after it does not', async () => {
    for (const [id, back, told] of [
      ['back_in_time', '2026-05-19T23:00:00Z', 1],
      ['back_too_late', '2026-05-20T00:00:00Z', 0],
    ] as const) {
      const { clock, context } = await givenTrial(id)
      clock.set(new Date(back))
      while ((await observeDueAccounts(billing.context.db, context)) > 0);
      expect(await eventsOf(id, 'subscription.trial_will_end')).toHaveLength(told)
    }
  })

  it('given by an operator is announced too, and by time alone', async () => {
    const id = 'given'
    const { clock, context } = await givenTrial(id)
    clock.set(new Date('2026-05-16T23:59:59Z'))
    await observeDueAccounts(billing.context.db, context)
    expect(await eventsOf(id, 'subscription.trial_will_end')).toEqual([])
    clock.set(new Date('2026-05-17T00:00:00Z'))
    await Promise.all([1, 2, 3].map(() => observeDueAccounts(billing.context.db, context)))
    expect(await eventsOf(id, 'subscription.trial_will_end')).toHaveLength(1)
    clock.set(new Date('2026-05-20T00:00:00Z'))
    expect(await observeDueAccounts(billing.context.db, context)).toBeGreaterThan(0)
    expect((await changesOf(id)).at(-1)).toBe('trialing → free (free)')
  })
})

describe('a payment that fails', () => {
  it('is not told as paid when an operator lets the customer go on, but when it is paid', async () => {
    const id = await onClock('promised')
    await succeed(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
    await replaceCard(id, 'pm_card_visa_chargeDeclinedInsufficientFunds')
    await renew(id)
    const goingOn = { billing_status: 'active', reason: 'promised to pay' }
    expect((await billing.call('operator', 'PATCH', `/api/v1/admin/billing/${id}`, goingOn)).status).toBe(200)
    const observe = () =>
      billing.context.db.transaction((tx) => observeAccount(tx, { ...billing.context, graceDays: 3, dunningDays: [1] }, id))
    await observe()
    expect(await stepsOf(id)).toEqual(['failed'])
    expect((await changesOf(id)).at(-1)).toBe('grace → active (pro)')
    await replaceCard(id, 'pm_card_visa')
    const [open] = await invoicesOf(id, '?status=open')
    await succeed(id, `invoices/${open!.id}/pay`)
    await observe()
    expect(await stepsOf(id)).toEqual(['failed', 'recovered'])
  })

  it('KF-13 is told at once, after a day, a day before use stops, when it does, and when it was paid after all', async () => {
    const id = await onClock('owing')
    await succeed(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
    await replaceCard(id, 'pm_card_visa_chargeDeclinedInsufficientFunds')
    await renew(id)
    expect(await stepsOf(id)).toEqual(['failed'])
    for (let day = 0; day < 3; day += 1) await advance(id, '1d')
    expect(await stepsOf(id)).toEqual(['failed', 'reminder', 'last_warning', 'suspended'])
    const [first] = await eventsOf(id, 'dunning.reminder')
    expect(first!.data).toMatchObject({
      amount_due_minor: 2900,
      currency: 'usd',
      recovery_url: expect.stringMatching(/^http/) as string,
    })
    await replaceCard(id, 'pm_card_visa')
    const [open] = await invoicesOf(id, '?status=open')
    await succeed(id, `invoices/${open!.id}/pay`)
    await billing.call('operator', 'POST', `/api/v1/organizations/${id}/reconcile`)
    expect(await stepsOf(id)).toEqual(['failed', 'reminder', 'last_warning', 'suspended', 'recovered'])
    expect(await changesOf(id)).toEqual([
      'free → active (pro)',
      'active → grace (pro)',
      'grace → suspended (pro)',
      'suspended → active (pro)',
    ])
    const invoices = await eventsOf(id, 'invoice.created', 'invoice.paid', 'invoice.payment_failed')
    expect(invoices.map(({ type }) => type)).toEqual(
      expect.arrayContaining(['invoice.created', 'invoice.paid', 'invoice.payment_failed']),
    )
    expect(new Set(invoices.map(({ key }) => key)).size).toBe(invoices.length)
  })

  it('is not made up for: who was not looked at for days is told where they stand now', async () => {
    const id = await onClock('late')
    await succeed(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
    await replaceCard(id, 'pm_card_visa_chargeDeclinedInsufficientFunds')
    await advance(id, '40d')
    expect(await stepsOf(id)).toEqual(['suspended'])
  })
})

describe('a card that expires', () => {
  it('is announced 30 and 7 days before, each once, while it pays for something', async () => {
    const id = await onClock('expiring')
    const { card, expiresAt } = await expiringCard()
    await advance(id, new Date(expiresAt.getTime() - 45 * DAY_MS))
    await succeed(id, 'subscribe', { tier: 'pro', payment_method_id: card })
    const look = async (daysBefore: number) => {
      await advance(id, new Date(expiresAt.getTime() - daysBefore * DAY_MS))
      const events = await eventsOf(id, 'payment_method.expiring')
      return events.map(({ data }) => data['days_left'])
    }
    expect(await look(31)).toEqual([])
    expect(await look(30)).toEqual([30])
    expect(await look(20)).toEqual([30])
    expect(await look(6.5)).toEqual([30, 7])
    expect(await look(1)).toEqual([30, 7])
    const [first] = await eventsOf(id, 'payment_method.expiring')
    expect(first!.data).toMatchObject({
      brand: 'visa',
      last4: '4242',
      exp_year: new Date(expiresAt.getTime() - DAY_MS).getUTCFullYear(),
    })
  })
})

it('a card that expires is not announced where what it pays for ends anyway', async () => {
  const id = await onClock('leaving')
  const { card, expiresAt } = await expiringCard()
  await advance(id, new Date(expiresAt.getTime() - 10 * DAY_MS))
  await succeed(id, 'subscribe', { tier: 'pro', payment_method_id: 'pm_card_visa' })
  await succeed(id, 'cancel', { immediate: false })
  await replaceCard(id, card)
  expect(await eventsOf(id, 'payment_method.expiring')).toEqual([])
  await succeed(id, 'cancel/undo', {})
  expect(await eventsOf(id, 'payment_method.expiring')).toHaveLength(1)
})

it('a trial that has run out by our clock goes on until Stripe says what came of it', async () => {
  const clock = new ManualClock(systemClock.now())
  const id = await billing.createOrganization('untold')
  const context = { ...billing.context, clock, graceDays: 3, dunningDays: [1] }
  await succeed(id, 'subscribe', { tier: 'starter' })
  await billing.context.db.transaction((tx) => observeAccount(tx, context, id))
  const body = await subscriptionOf(id)
  clock.set(new Date(new Date(String(body['trial_end'])).getTime() + DAY_MS))
  expect(await observeDueAccounts(billing.context.db, context)).toBeGreaterThan(0)
  expect(await observeDueAccounts(billing.context.db, context)).toBe(0)
  expect(await changesOf(id)).toEqual(['free → trialing (starter)'])
  expect(await eventsOf(id, 'subscription.canceled')).toEqual([])
})

it('who cannot be looked at stands in nobody’s way, and is looked at again ten minutes later', async () => {
  const clock = new ManualClock(new Date('2026-05-01T00:00:00Z'))
  const context = { ...billing.context, clock, graceDays: 3, dunningDays: [1] }
  const look = () => observeDueAccounts(billing.context.db, context)
  const ids = ['stuck', 'behind_it']
  for (const [index, id] of ids.entries()) {
    await billing.createOrganization(id)
    await billing.call('operator', 'PATCH', `/api/v1/admin/billing/${id}`, {
      plan: 'pro',
      billing_status: 'trialing',
      trial_ends_at: `2026-05-0${index + 2}T00:00:00Z`,
      reason: 'a demonstration',
    })
    await billing.context.db.transaction((tx) => observeAccount(tx, context, id))
  }
  await billing.database.db.query(`
    create function refuse() returns trigger language plpgsql as $$ begin raise 'not now'; end $$;
    create trigger stuck before insert on events for each row when (new.organization_id = 'stuck') execute function refuse()`)
  clock.set(new Date('2026-05-03T00:00:00Z'))
  await expect(look()).rejects.toThrow('1 organizations could not be looked at')
  expect((await changesOf('behind_it')).at(-1)).toBe('trialing → free (free)')
  expect(await look()).toBe(0)
  await billing.database.db.query('drop trigger stuck on events')
  clock.advance(10 * 60_000 - 1)
  expect(await look()).toBe(0)
  clock.advance(1)
  expect(await look()).toBe(1)
  expect((await changesOf('stuck')).at(-1)).toBe('trialing → free (free)')
})

it('what is told once is told once, whoever looks at the same time', async () => {
  const id = await billing.createOrganization('raced')
  const context = { ...billing.context, graceDays: 3, dunningDays: [1] }
  await billing.database.db.query(
    `update accounts set override_status = 'active', override_plan_key = 'pro' where organization_id = $1`,
    [id],
  )
  await Promise.all(Array.from({ length: 8 }, () => billing.context.db.transaction((tx) => observeAccount(tx, context, id))))
  expect(await changesOf(id)).toEqual(['free → active (pro)'])
})
