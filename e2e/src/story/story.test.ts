import { expect, test } from 'vitest'
import { beginLife } from './life.ts'
import { storyPlace } from './place.ts'

const place = storyPlace()

test('three months of one customer: after each step statement, invoices, explanations, balances, reports and exports agree', async () => {
  const life = await beginLife(await place.newCustomer())
  // Free.
  await life.use('track', 'calls', 12)
  await life.settleBooks()

  // A trial with two seats, used over its edge: that is free.
  expect((await life.subscribe('team', { quantity: 2 })).body).toMatchObject({ status: 'trialing' })
  await life.use('track', 'calls', 130, { key: 'in trial' })
  await life.use('track', 'agents', 3)
  await life.settleBooks()
  const inTrial = life.now()

  // A card, and the trial ends: paid.
  await life.card('pm_card_visa')
  await life.wait('15d')
  await life.settleBooks()

  // Beyond every edge.
  await life.use('track', 'calls', 350, { key: 'many calls' })
  await life.use('track', 'agents', 4, { key: 'four agents' })
  await life.use('consume', 'tokens', 2400)
  await life.settleBooks()
  expect((await life.use('consume', 'tokens', 2000)).body).toMatchObject({ allowed: false, code: 'spend_limit_reached' })
  expect((await life.use('consume', 'searches', 45)).body).toMatchObject({ allowed: true })
  expect((await life.use('consume', 'searches', 20)).body).toMatchObject({ allowed: false, code: 'rate_limited' })
  await life.wait('1h')
  // Fifty, and twenty that the trial left over.
  expect((await life.use('consume', 'searches', 30)).body).toMatchObject({ allowed: false, code: 'quota_exceeded' })
  await life.promote('searches', 10, 10)
  expect((await life.topUp('searches')).status).toBeLessThan(300)
  expect((await life.use('consume', 'searches', 30)).body).toMatchObject({ allowed: true, quota_remaining: 45 })
  const hold = await life.hold('searches', 8)
  await life.settleBooks()
  await life.settle(hold!, 11)
  await life.settleBooks()

  // Told late, of this period and of the trial; corrected, and taken back.
  await life.wait('6d')
  await life.use('track', 'calls', 40, { occurred_at: life.ago(5) })
  expect((await life.use('track', 'calls', 500, { occurred_at: inTrial })).body).toMatchObject({ late: { invoice: 'none' } })
  await life.settleBooks()
  expect((await life.correct('many calls', { quantity: -60 })).status).toBe(200)
  expect((await life.correct('in trial', { quantity: -30 })).status).toBe(200)
  await life.settleBooks()
  expect((await life.correct('four agents', { retract: true })).status).toBe(200)
  await life.settleBooks()

  // A third seat, then up, with use on both sides.
  expect((await life.change({ new_tier: 'team', quantity: 3 })).status).toBe(200)
  await life.settleBooks()
  await life.use('track', 'agents', 6)
  await life.wait('3d')
  expect((await life.change({ new_tier: 'business', quantity: 1 })).status).toBe(200)
  await life.settleBooks()
  await life.use('track', 'calls', 300)
  await life.use('consume', 'tokens', 3000)
  await life.use('track', 'agents', 7)
  await life.settleBooks()

  // Renewed; late use while the invoice is a draft, and after.
  await life.wait('22d')
  await life.settleBooks()
  await life.use('track', 'calls', 25, { occurred_at: life.ago(10) })
  await life.settleBooks()

  // Down at the period's end, which comes.
  expect((await life.change({ new_tier: 'team', at: 'period_end' })).status).toBe(200)
  await life.use('track', 'calls', 250)
  await life.use('consume', 'searches', 90)
  await life.settleBooks()
  await life.wait('30d')
  await life.settleBooks()
  await life.use('track', 'calls', 140)
  await life.settleBooks()

  // The card fails at the renewal; grace, suspension, recovery.
  await life.card('pm_card_chargeCustomerFail')
  await life.wait('30d')
  await life.settleBooks()
  await life.wait('4d')
  expect((await life.use('consume', 'calls', 1)).body).toMatchObject({ allowed: false, code: 'suspended' })
  await life.settleBooks()
  await life.card('pm_card_visa')
  await life.payOpenInvoices()
  expect((await life.use('consume', 'calls', 160)).body).toMatchObject({ allowed: true })
  await life.settleBooks()

  // Renewed again, used, and ended: what was used comes on the last invoice.
  await life.wait('27d')
  await life.use('track', 'calls', 210)
  await life.settleBooks()
  expect((await life.cancel(true)).status).toBe(200)
  await life.settleBooks()
  await life.wait('1d')
  await life.settleBooks()
})
