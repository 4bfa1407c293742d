import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { deriveAccount, type AccountInputs, type MirroredInvoice, type MirroredSubscription } from './derive-account.ts'

const at = (day: number) => new Date(Date.UTC(2026, 2, day))
const item = { id: 'si_1', priceId: 'price_pro', quantity: 1, currentPeriodStart: at(1), currentPeriodEnd: at(31) }
const subscription: MirroredSubscription = {
  id: 'sub_1',
  status: 'active',
  cancelAt: null,
  cancelAtPeriodEnd: false,
  trialEnd: null,
  cycleAnchor: null,
  defaultPaymentMethodId: null,
  endedAt: null,
  createdAt: at(1),
  items: [item],
  scheduled: null,
  pendingInvoiceId: null,
}
const openInvoice: MirroredInvoice = {
  id: 'in_1',
  subscriptionId: 'sub_1',
  status: 'open',
  collectionMethod: 'charge_automatically',
  attempted: true,
  amountRemainingMinor: 2900,
  finalizedAt: at(5),
  createdAt: at(4),
  underWay: false,
  failedAt: null,
}
const inputs: AccountInputs = {
  subscriptions: [subscription],
  invoices: [],
  customerPaymentMethodId: 'pm_customer',
  plansByPrice: new Map([
    ['price_pro', { planKey: 'pro', priceKey: 'monthly', catalogVersion: 1 }],
    ['price_starter', { planKey: 'starter', priceKey: 'monthly', catalogVersion: 1 }],
    ['price_gone', { planKey: 'gone', priceKey: 'monthly', catalogVersion: 1 }],
  ]),
  soldUntil: new Map(),
  previous: { planKey: 'free', catalogVersion: 1, subscriptionId: null, priceKey: null, isDefaultPlan: true },
  disputes: [],
  disputeCounts: 'lost',
  current: { catalogVersion: 2, defaultPlanKey: 'free', planKeys: new Set(['free', 'starter', 'pro']) },
}
const had = { catalogVersion: 1, priceKey: 'monthly', isDefaultPlan: false }
const derive = (changes: Partial<AccountInputs>) => deriveAccount({ ...inputs, ...changes })

describe('the plan', () => {
  test('comes from the price, under the terms of the current catalog', () => {
    expect(derive({}).account).toMatchObject({ planKey: 'pro', catalogVersion: 2, priceKey: 'monthly', quantity: 1 })
  })

  test('keeps the terms under which the subscription began', () => {
    const previous = { ...had, planKey: 'pro', subscriptionId: 'sub_1' }
    expect(derive({ previous }).account.catalogVersion).toBe(1)
  })

  test('takes the terms of its price when the current catalog has dropped it', () => {
    const sold = { ...subscription, items: [{ ...item, priceId: 'price_gone' }] }
    expect(derive({ subscriptions: [sold] }).account).toMatchObject({ planKey: 'gone', catalogVersion: 1 })
  })

  test('has the terms of today in another interval, or those in which its prices were sold last', () => {
    const plansByPrice = new Map([
      ...inputs.plansByPrice,
      ['price_year', { planKey: 'pro', priceKey: 'yearly', catalogVersion: 1 }],
    ])
    const previous = { ...had, planKey: 'pro', subscriptionId: 'sub_1' }
    const items = [
      { ...item, priceId: 'price_year' },
      { ...item, id: 'si_use', priceId: 'price_use' },
    ]
    const versionOf = (soldUntil: AccountInputs['soldUntil']) =>
      derive({ plansByPrice, previous, soldUntil, subscriptions: [{ ...subscription, items }] }).account.catalogVersion
    const current = { ...inputs.current, catalogVersion: 4 }
    expect(versionOf(new Map())).toBe(2)
    expect(
      derive({ plansByPrice, previous: { ...previous, priceKey: 'yearly' }, current, soldUntil: new Map() }).account
        .catalogVersion,
    ).toBe(4)
    const fee = { at: at(20), catalogVersion: 3 }
    expect(versionOf(new Map([['price_year', fee]]))).toBe(3)
    // What ceased first says in which version all of it was sold.
    expect(
      versionOf(
        new Map([
          ['price_year', fee],
          ['price_use', { at: at(10), catalogVersion: 1 }],
        ]),
      ),
    ).toBe(1)
  })

  test('stays the default plan that it is, whatever the default plan is today', () => {
    const previous = { ...had, planKey: 'hobby', subscriptionId: null, priceKey: null }
    const terms = { planKey: 'hobby', catalogVersion: 1 }
    expect(derive({ subscriptions: [], previous: { ...previous, isDefaultPlan: true } }).account).toMatchObject(terms)
    expect(derive({ subscriptions: [], previous }).account).toMatchObject({ planKey: 'free', catalogVersion: 2 })
  })

  test('stays what it was when the price sells none, and that raises an alert: never free', () => {
    const previous = { ...had, planKey: 'pro', subscriptionId: 'sub_1' }
    const odd = { ...subscription, items: [{ ...item, priceId: 'price_unknown' }] }
    const { account, alerts } = derive({ subscriptions: [odd], previous })
    expect(account).toMatchObject({ planKey: 'pro', catalogVersion: 1, subscriptionStatus: 'active', currentPeriodEnd: at(31) })
    expect(alerts).toEqual([{ kind: 'unknown_price', subscriptionId: 'sub_1', priceIds: ['price_unknown'] }])
  })

  test('is the default one again after the subscription ended (EM-6)', () => {
    const ended = { ...subscription, status: 'canceled' as const }
    expect(derive({ subscriptions: [ended] }).account).toMatchObject({
      planKey: 'free',
      subscriptionId: 'sub_1',
      subscriptionStatus: 'canceled',
      nextInvoiceAt: null,
    })
  })
})

describe('of several subscriptions', () => {
  test('the one that stands best counts, whichever is newer, and that raises an alert when two are live', () => {
    const owing = { ...subscription, id: 'sub_2', status: 'past_due' as const, createdAt: at(9) }
    const { account, alerts } = derive({ subscriptions: [owing, subscription] })
    expect(account.subscriptionId).toBe('sub_1')
    expect(alerts).toEqual([{ kind: 'several_subscriptions', subscriptionIds: ['sub_1', 'sub_2'] }])
  })

  const foreign = { ...subscription, id: 'sub_2', createdAt: at(9), items: [{ ...item, priceId: 'price_unknown' }] }

  test.each(['active', 'trialing', 'past_due', 'unpaid', 'paused'] as const)(
    'one that sells a plan counts before one that sells none, also while it is %s',
    (status) => {
      const { account } = derive({ subscriptions: [foreign, { ...subscription, status }] })
      expect(account).toMatchObject({ subscriptionId: 'sub_1', planKey: 'pro', subscriptionStatus: status })
    },
  )

  test.each(['incomplete', 'canceled', 'incomplete_expired'] as const)(
    'one that sells no known plan counts before one that is %s',
    (status) => {
      const previous = { ...had, planKey: 'starter', subscriptionId: 'sub_2' }
      const { account } = derive({ subscriptions: [{ ...subscription, status }, foreign], previous })
      expect(account).toMatchObject({ subscriptionId: 'sub_2', planKey: 'starter', subscriptionStatus: 'active' })
    },
  )

  test('a live one counts before an ended one', () => {
    const ended = { ...subscription, id: 'sub_2', status: 'canceled' as const, createdAt: at(9) }
    expect(derive({ subscriptions: [ended, subscription] }).account.subscriptionId).toBe('sub_1')
  })
})

describe('EM-7 the failed payment', () => {
  test('dates from the oldest open invoice that was attempted', () => {
    const older = { ...openInvoice, id: 'in_0', finalizedAt: at(3) }
    expect(derive({ invoices: [openInvoice, older] }).account.paymentFailedAt).toEqual(at(3))
  })

  test('dates from when a debit was refused that was made days before', () => {
    expect(derive({ invoices: [{ ...openInvoice, failedAt: at(10) }] }).account.paymentFailedAt).toEqual(at(10))
  })

  test.each([
    ['not yet attempted', { attempted: false }],
    ['paid', { status: 'paid' as const }],
    ['of an earlier subscription', { subscriptionId: 'sub_0' }],
    ['sent to be paid by transfer', { collectionMethod: 'send_invoice' }],
    ['settled in full', { amountRemainingMinor: 0 }],
    ['being paid by a debit', { underWay: true }],
  ])('is not an invoice that is %s', (_, changes) => {
    expect(derive({ invoices: [{ ...openInvoice, ...changes }] }).account.paymentFailedAt).toBeNull()
  })
})

describe('what an ended subscription left unpaid', () => {
  const ended = { ...subscription, id: 'sub_0', status: 'canceled' as const, endedAt: at(9) }
  const left = { ...openInvoice, subscriptionId: 'sub_0' }

  test('is owed since the oldest of it was due, and the account knows when it ended', () => {
    const { account } = derive({ subscriptions: [ended], invoices: [left, { ...left, id: 'in_0', finalizedAt: at(3) }] })
    expect(account).toMatchObject({ endedAt: at(9), leftOwingSince: at(3), paymentFailedAt: null })
  })

  test('is owed beside another subscription too, which has not ended', () => {
    const { account } = derive({ subscriptions: [ended, subscription], invoices: [left] })
    expect(account).toMatchObject({ subscriptionId: 'sub_1', endedAt: null, leftOwingSince: at(5), paymentFailedAt: null })
  })

  test.each([
    ['not yet attempted', { attempted: false }],
    ['a draft', { status: 'draft' as const }],
    ['of a subscription that stands', { subscriptionId: 'sub_1' }],
    ['of none', { subscriptionId: null }],
    ['settled in full', { amountRemainingMinor: 0 }],
  ])('is no invoice that is %s', (_, changes) => {
    const { account } = derive({ subscriptions: [ended, subscription], invoices: [{ ...left, ...changes }] })
    expect(account.leftOwingSince).toBeNull()
  })
})

describe('what a second subscription has not paid', () => {
  const second = { ...subscription, id: 'sub_2', status: 'past_due' as const }
  const owed = { ...openInvoice, subscriptionId: 'sub_2' }

  test('is owed beside the one that counts, and is no failed payment of that', () => {
    const { account } = derive({ subscriptions: [second, subscription], invoices: [owed] })
    expect(account).toMatchObject({ subscriptionId: 'sub_1', leftOwingSince: at(5), paymentFailedAt: null })
  })

  test.each([
    ['waits for the bank', { ...second, pendingInvoiceId: owed.id }, owed],
    ['is sent to be paid by transfer', second, { ...owed, collectionMethod: 'send_invoice' }],
    ['was never paid for at first', { ...second, status: 'incomplete_expired' as const }, owed],
  ])('is not what %s', (_, other, invoice) => {
    expect(derive({ subscriptions: [other, subscription], invoices: [invoice] }).account.leftOwingSince).toBeNull()
  })
})

test('an upgrade that waits for the bank is not a payment that is owed', () => {
  const waiting = { ...subscription, pendingInvoiceId: 'in_1' }
  expect(derive({ subscriptions: [waiting], invoices: [openInvoice] }).account.paymentFailedAt).toBeNull()
})

describe('the dates', () => {
  test('a cancellation at the end of the period is read from either field', () => {
    expect(derive({ subscriptions: [{ ...subscription, cancelAtPeriodEnd: true }] }).account).toMatchObject({
      cancelAt: at(31),
      nextInvoiceAt: null,
    })
    expect(derive({ subscriptions: [{ ...subscription, cancelAt: at(20) }] }).account.cancelAt).toEqual(at(20))
  })

  test('EM-15 the next invoice comes at the end of the period', () => {
    expect(derive({}).account.nextInvoiceAt).toEqual(at(31))
  })

  test('a scheduled switch names its plan and its time', () => {
    const scheduled = { priceId: 'price_starter', at: at(31) }
    expect(derive({ subscriptions: [{ ...subscription, scheduled }] }).account).toMatchObject({
      planKey: 'pro',
      scheduledPlanKey: 'starter',
      scheduledAt: at(31),
    })
  })
})

test('EM-15 the payment method of the subscription goes before the one of the customer', () => {
  expect(derive({}).account.paymentMethodId).toBe('pm_customer')
  expect(derive({ subscriptions: [{ ...subscription, defaultPaymentMethodId: 'pm_sub' }] }).account.paymentMethodId).toBe(
    'pm_sub',
  )
})

const subscriptions = fc.uniqueArray(
  fc.record({
    id: fc.stringMatching(/^sub_[a-d]$/),
    status: fc.constantFrom(...(['active', 'trialing', 'past_due', 'unpaid', 'paused', 'incomplete', 'canceled'] as const)),
    createdAt: fc.integer({ min: 1, max: 3 }).map(at),
    price: fc.constantFrom('price_pro', 'price_starter', 'price_unknown'),
  }),
  { selector: ({ id }) => id, minLength: 1, maxLength: 4 },
)

test('the order in which the mirror lists its rows never matters', () => {
  fc.assert(
    fc.property(
      subscriptions.chain((rows) => fc.tuple(fc.constant(rows), fc.shuffledSubarray(rows, { minLength: rows.length }))),
      ([rows, shuffled]) => {
        const expand = (list: typeof rows) =>
          list.map(({ price, ...row }) => ({ ...subscription, ...row, items: [{ ...item, priceId: price }] }))
        expect(derive({ subscriptions: expand(shuffled) })).toEqual(derive({ subscriptions: expand(rows) }))
      },
    ),
  )
})

test('no live subscription ever leads to the default plan unless the organization was on it', () => {
  fc.assert(
    fc.property(subscriptions, (rows) => {
      const live = rows
        .filter(({ status }) => status !== 'canceled')
        .map(({ price, ...row }) => ({ ...subscription, ...row, items: [{ ...item, priceId: price }] }))
      fc.pre(live.length > 0)
      const previous = { ...had, planKey: 'pro', subscriptionId: 'sub_x' }
      expect(derive({ subscriptions: live, previous }).account.planKey).not.toBe('free')
    }),
  )
})
