import { Stripe } from 'stripe'
import { systemClock } from '../../lib/clock.ts'
import { DomainError } from '../../lib/errors.ts'
import type { Log } from '../log.ts'
import { endpointOf, toAccountPage, toPageParams, type AccountPagers } from './account-lists.ts'
import { createCaller, type SdkError } from './caller.ts'
import { toCouponSnapshot, toMeterFault, toPriceSnapshot } from './catalog-snapshots.ts'
import { createCreditNoteReader, withCreditNotes } from './credit-notes.ts'
import { createDiscountReader } from './discount-snapshots.ts'
import { readEnvelope, readSignedEnvelope } from './envelope.ts'
import type { MeterEvent, StripeGateway, StripeReads, TestClockSnapshot } from './gateway.ts'
import { toInvoiceItem, toInvoiceItemSnapshot, type InvoiceItemSnapshot } from './invoice-items.ts'
import { toPreview } from './invoice-previews.ts'
import { createStripeLimiter } from './limiter.ts'
import type { MutationKind, MutationResult, StripeMutations } from './mutations.ts'
import { orNull, readPages } from './pages.ts'
import { toChargeSnapshot, toDisputeSnapshot, toPaymentMethodSnapshot } from './payment-snapshots.ts'
import * as request from './requests.ts'
import { result } from './results.ts'
import { toScheduleSnapshot } from './schedule-snapshots.ts'
import { isSigned } from './signature.ts'
import {
  isCredited,
  isWhole,
  toCustomerSnapshot,
  toInvoiceSnapshot,
  toListedSubscription,
  withLines,
  type InvoiceSnapshot,
} from './snapshots.ts'
import { createTaxReads } from './tax-reads.ts'
import { fromUnix, idOf, toPlainObject, toUnix } from './wire.ts'

export type StripeClientOptions = {
  readonly apiKey: string
  /** Where the API is, when it is not Stripe itself. */
  readonly endpoint?: { readonly host: string; readonly port: number; readonly protocol: 'http' | 'https' }
  /** Milliseconds for one attempt of a call; default 20,000. */
  readonly timeoutMs?: number
  /** Calls a second that this process may make on average; default 20 in test mode, 80 in live mode. */
  readonly callsPerSecond?: number
  readonly log: Log
}

/** The version whose shapes `snapshots.ts` reads; the SDK's own, named so that an upgrade of the SDK cannot move it unseen. */
const API_VERSION = '2026-10-28.endive'
const PAGE = 100
/** Thin events that tell of reports which Stripe took and then found wrong. */
const METER_FAULTS = ['v1.billing.meter.error_report_triggered', 'v1.billing.meter.no_meter_found']
/** The coupons of a subscription's discounts, and what it is scheduled to become. */
const OF_SUBSCRIPTIONS = ['data.discounts.source.coupon', 'data.schedule']
/** Discounts with their coupons, the products to which these are limited, and what they take off in other currencies. */
const WHOLE_COUPONS = ['discounts.source.coupon.applies_to', 'discounts.source.coupon.currency_options']
/** The invoice of a purchase or a renewal comes with its subscription: that is one call less. */
const WITH_INVOICES = [...OF_SUBSCRIPTIONS, 'data.latest_invoice.payments']

/** Makes the gateway that speaks to Stripe, or to the sandbox, through the official package. */
export function createStripeClient(options: StripeClientOptions): StripeGateway {
  const mode = /^(sk|rk)_live_/.test(options.apiKey) ? 'live' : 'test'
  const stripe = new Stripe(options.apiKey, {
    apiVersion: API_VERSION,
    // `caller.ts` repeats, and then knows of each attempt what became of it.
    maxNetworkRetries: 0,
    timeout: options.timeoutMs ?? 20_000,
    telemetry: false,
    appInfo: { name: 'Tollgate' },
    ...options.endpoint,
  })
  const limiter = createStripeLimiter(mode, options.callsPerSecond)
  const call = createCaller({ limiter, log: options.log, isSdkError })
  const changes = mutationTable(stripe)

  return {
    mode,
    callsPerSecond: limiter.callsPerSecond,
    reads: createReads(stripe, (name, make) => call(name, 'interactive', make)),
    backgroundReads: createReads(stripe, (name, make) => call(name, 'background', make)),
    perform(kind, params, { idempotencyKey, priority = 'interactive' }) {
      return call(kind, priority, () => changes[kind](params, { idempotencyKey }))
    },
    sendMeterEvent: (event) => call('send_meter_event', 'background', () => sendMeterEvent(stripe, event)),
    verifyWebhook(rawBody, signature, secrets) {
      // How old a signature is, the machine's time says: Stripe and the sandbox sign by theirs.
      if (!isSigned(rawBody, signature, secrets, systemClock.now()))
        throw new DomainError('invalid_signature', 'invalid signature')
      return readSignedEnvelope(rawBody)
    },
  }
}

type Caller = <T>(name: string, make: () => Promise<T>) => Promise<T>

const isSdkError = (error: unknown): error is SdkError => error instanceof Stripe.errors.StripeError

function accountPagers({ subscriptions, invoices, charges, refunds, disputes, customers }: Stripe): AccountPagers {
  return {
    subscriptions: (params) => subscriptions.list({ ...params, status: 'all', expand: OF_SUBSCRIPTIONS }),
    invoices: (params) => invoices.list(params),
    draft_invoices: (params) => invoices.list({ ...params, status: 'draft' }),
    open_invoices: (params) => invoices.list({ ...params, status: 'open' }),
    uncollectible_invoices: (params) => invoices.list({ ...params, status: 'uncollectible' }),
    charges: (params) => charges.list(params),
    refunds: (params) => refunds.list({ ...params, expand: ['data.charge'] }),
    disputes: (params) => disputes.list({ ...params, expand: ['data.charge'] }),
    customers: (params) => customers.list({ ...params, expand: ['data.tax_ids'] }),
  }
}

function createReads(stripe: Stripe, call: Caller): StripeReads {
  const pagers = accountPagers(stripe)
  const linesOf = <Line>(invoiceId: string, map: (line: Stripe.InvoiceLineItem) => Line): Promise<Line[]> =>
    readPages((after) => call('list_lines', () => stripe.invoices.listLineItems(invoiceId, { limit: PAGE, ...after })), map)
  const creditNotesOf = createCreditNoteReader({
    listNotes: (params) => call('list_credit_notes', () => stripe.creditNotes.list(params)),
    listLines: (note, params) => call('list_credit_note_lines', () => stripe.creditNotes.listLineItems(note, params)),
  })
  /** An invoice brings its first ten lines, and of its credit notes the sums; the rest is read by the page. */
  async function toWhole(invoice: Stripe.Invoice): Promise<InvoiceSnapshot> {
    const snapshot = toInvoiceSnapshot(invoice)
    if (isWhole(invoice)) return snapshot
    const [lines, notes] = await Promise.all([
      invoice.lines.has_more ? linesOf(invoice.id, toPlainObject) : null,
      isCredited(invoice) ? creditNotesOf(invoice.id) : [],
    ])
    const credited = withCreditNotes(snapshot, notes)
    return lines === null ? credited : withLines(credited, lines)
  }
  const itemsOf = (params: Stripe.InvoiceItemListParams): Promise<InvoiceItemSnapshot[]> =>
    readPages(
      (after) => call('list_invoice_items', () => stripe.invoiceItems.list({ ...params, limit: PAGE, ...after })),
      toInvoiceItemSnapshot,
    )
  const discountsOf = createDiscountReader({
    retrieveSubscription: (id) =>
      call('retrieve_subscription', () => stripe.subscriptions.retrieve(id, { expand: WHOLE_COUPONS })),
    retrieveItem: (id) =>
      call('retrieve_subscription_item', () => stripe.subscriptionItems.retrieve(id, { expand: WHOLE_COUPONS })),
  })
  return {
    retrieveCustomer: (id) =>
      orNull(
        call('retrieve_customer', async () => toCustomerSnapshot(await stripe.customers.retrieve(id, { expand: ['tax_ids'] }))),
      ),
    findCustomers: ({ email, testClockId }) =>
      readPages(
        (after) =>
          call('find_customers', () =>
            stripe.customers.list({ email, limit: PAGE, ...after, ...(testClockId === null ? {} : { test_clock: testClockId }) }),
          ),
        toCustomerSnapshot,
      ),
    listSubscriptions: async (customer) => {
      const params = { customer, status: 'all', limit: PAGE, expand: WITH_INVOICES } as const
      const found = await readPages(
        (after) => call('list_subscriptions', () => stripe.subscriptions.list({ ...params, ...after })),
        (wire) => wire,
      )
      return Promise.all(found.map(async (wire) => toListedSubscription(wire, await discountsOf(wire))))
    },
    retrieveInvoice: (id) =>
      orNull(
        call('retrieve_invoice', () => stripe.invoices.retrieve(id, { expand: ['payments'] })).then((invoice) =>
          toWhole(invoice),
        ),
      ),
    listInvoices: async (customer, limit) => {
      const params = { customer, limit: Math.min(limit ?? PAGE, PAGE), expand: ['data.payments'] }
      const found = await readPages(
        (after) => call('list_invoices', () => stripe.invoices.list({ ...params, ...after })),
        (invoice) => invoice,
        limit,
      )
      return Promise.all(found.map((invoice) => toWhole(invoice)))
    },
    listBalanceTransactions: (customer) =>
      readPages(
        (after) =>
          call('list_balance_transactions', () => stripe.customers.listBalanceTransactions(customer, { limit: PAGE, ...after })),
        ({ id, metadata }) => ({ id, metadata: metadata ?? {} }),
      ),
    listPendingItems: (customer) => itemsOf({ customer, pending: true }),
    listItemsOfInvoice: (invoice) => itemsOf({ invoice }),
    listInvoiceItems: (customer) => itemsOf({ customer }),
    listPaymentMethods: (customer) =>
      readPages(
        (after) => call('list_payment_methods', () => stripe.customers.listPaymentMethods(customer, { limit: PAGE, ...after })),
        toPaymentMethodSnapshot,
      ),
    retrieveCharge: (id) => orNull(call('retrieve_charge', async () => toChargeSnapshot(await stripe.charges.retrieve(id)))),
    listCharges: (customer, limit) =>
      readPages(
        (after) => call('list_charges', () => stripe.charges.list({ customer, limit: Math.min(limit ?? PAGE, PAGE), ...after })),
        toChargeSnapshot,
        limit,
      ),
    listDisputes: (charge) =>
      readPages(
        (after) => call('list_disputes', () => stripe.disputes.list({ charge, limit: PAGE, ...after })),
        toDisputeSnapshot,
      ),
    previewInvoice: async (query) => {
      // Of coupons that are only thought of, no discount is there to be expanded.
      const expand = query.discounts.length > 0 ? {} : { expand: WHOLE_COUPONS }
      const invoice = await call('preview_invoice', () =>
        stripe.invoices.createPreview({ ...request.toInvoicePreview(query), ...expand }),
      )
      return toPreview(invoice, invoice.lines.has_more ? await linesOf(invoice.id, (line) => line) : invoice.lines.data)
    },
    retrieveSchedule: (id) =>
      orNull(call('retrieve_schedule', async () => toScheduleSnapshot(await stripe.subscriptionSchedules.retrieve(id)))),
    retrieveTestClock: async (id) =>
      toTestClock(await call('retrieve_test_clock', () => stripe.testHelpers.testClocks.retrieve(id))),
    retrieveCoupon: (id) => orNull(call('retrieve_coupon', async () => toCouponSnapshot(await stripe.coupons.retrieve(id)))),
    listMeters: () =>
      readPages(
        (after) => call('list_meters', () => stripe.billing.meters.list({ status: 'active', limit: PAGE, ...after })),
        ({ id, event_name }) => ({ id, eventName: event_name }),
      ),
    ...createTaxReads({
      retrievePrice: (id) => call('retrieve_price', () => stripe.prices.retrieve(id, { expand: ['product'] })),
      readSettings: () => call('read_tax_settings', () => stripe.tax.settings.retrieve()),
      listRegistrations: (after) =>
        call('list_tax_registrations', () => stripe.tax.registrations.list({ status: 'active', limit: PAGE, ...after })),
      calculate: (params) => call('calculate_tax', () => stripe.tax.calculations.create(params)),
    }),
    readMeter: async ({ meterId, customerId: customer, start, end }) => {
      const span = { customer, start_time: toUnix(start), end_time: toUnix(end) }
      const { data } = await call('read_meter', () => stripe.billing.meters.listEventSummaries(meterId, span))
      return String(data[0]?.aggregated_value ?? 0)
    },
    listMeterFaults: async () => {
      const { data } = await call('list_meter_faults', () => stripe.v2.core.events.list({ types: METER_FAULTS, limit: PAGE }))
      return data.flatMap((event) =>
        event.type === 'v1.billing.meter.error_report_triggered' || event.type === 'v1.billing.meter.no_meter_found'
          ? [toMeterFault(event)]
          : [],
      )
    },
    listProducts: () =>
      readPages(
        (after) => call('list_products', () => stripe.products.list({ limit: PAGE, ...after })),
        ({ id, name, description, active, metadata }) => ({ id, name, description, active, metadata }),
      ),
    listPrices: () =>
      readPages(
        (after) => call('list_prices', () => stripe.prices.list({ type: 'recurring', limit: PAGE, ...after })),
        toPriceSnapshot,
      ),
    retrievePrice: (id) => orNull(call('retrieve_price', async () => toPriceSnapshot(await stripe.prices.retrieve(id)))),
    listEvents: async ({ since, startingAfter }) => {
      const page = await call('list_events', () =>
        stripe.events.list({
          created: { gte: toUnix(since) },
          limit: PAGE,
          ...(startingAfter === null ? {} : { starting_after: startingAfter }),
        }),
      )
      return {
        hasMore: page.has_more,
        events: page.data.map((event) => ({ envelope: readEnvelope(event), payload: JSON.stringify(event) })),
      }
    },
    listPage: async (list, query) => toAccountPage(list, await call(endpointOf(list), () => pagers[list](toPageParams(query)))),
  }
}

async function sendMeterEvent(stripe: Stripe, event: MeterEvent): Promise<'accepted' | 'duplicate'> {
  const { identifier, eventName: event_name, customerId: stripe_customer_id, value } = event
  const params = { identifier, event_name, timestamp: toUnix(event.at), payload: { stripe_customer_id, value } }
  try {
    await stripe.billing.meterEvents.create(params, { idempotencyKey: identifier })
    return 'accepted'
  } catch (error) {
    // The code of a known identifier is not documented; the words are those of Stripe's answer.
    if (error instanceof Stripe.errors.StripeInvalidRequestError && /already exists with identifier/i.test(error.message)) {
      return 'duplicate'
    }
    throw error
  }
}

type MutationTable = {
  readonly [Kind in MutationKind]: (params: StripeMutations[Kind], options: { idempotencyKey: string }) => Promise<MutationResult>
}

function mutationTable(stripe: Stripe): MutationTable {
  const { subscriptions, subscriptionSchedules: schedules, invoices, testHelpers } = stripe
  return {
    create_customer: async ({ email, name, testClockId, metadata }, options) =>
      result(
        await stripe.customers.create(
          { email, name, metadata: { ...metadata }, ...(testClockId === null ? {} : { test_clock: testClockId }) },
          options,
        ),
      ),
    update_customer: async (params, options) =>
      result(await stripe.customers.update(params.customerId, request.toCustomerUpdate(params), options)),
    create_tax_id: async ({ customerId, type, value }, options) =>
      result(await stripe.customers.createTaxId(customerId, { type, value }, options)),
    delete_tax_id: async ({ customerId, taxId }, options) =>
      result(await stripe.customers.deleteTaxId(customerId, taxId, {}, options)),
    credit_customer: async (params, options) =>
      result(await stripe.customers.createBalanceTransaction(params.customerId, request.toCredit(params), options)),
    attach_payment_method: async ({ customerId, paymentMethodId }, options) =>
      result(await stripe.paymentMethods.attach(paymentMethodId, { customer: customerId }, options)),
    detach_payment_method: async ({ paymentMethodId }, options) =>
      result(await stripe.paymentMethods.detach(paymentMethodId, {}, options)),
    create_checkout_session: async (params, options) =>
      result(await stripe.checkout.sessions.create(request.toCheckoutSession(params), options)),
    create_payment: async (params, options) => result(await stripe.paymentIntents.create(request.toPayment(params), options)),
    create_payment_page: async (params, options) =>
      result(await stripe.checkout.sessions.create(request.toPaymentPage(params), options)),
    expire_checkout_session: async ({ sessionId }, options) =>
      result(await stripe.checkout.sessions.expire(sessionId, {}, options)),
    create_portal_session: async ({ customerId, returnUrl }, options) =>
      result(await stripe.billingPortal.sessions.create({ customer: customerId, return_url: returnUrl }, options)),
    create_setup_intent: async ({ customerId, metadata }, options) =>
      result(
        await stripe.setupIntents.create({ customer: customerId, usage: 'off_session', metadata: { ...metadata } }, options),
      ),
    create_subscription: async (params, options) => result(await subscriptions.create(request.toSubscription(params), options)),
    update_subscription: async (params, options) => {
      const updated = await subscriptions.update(params.subscriptionId, request.toSubscriptionUpdate(params), options)
      return { ...result(updated), invoiceId: idOf(updated.latest_invoice) }
    },
    cancel_subscription: async ({ subscriptionId, prorate, invoiceNow }, options) =>
      result(await subscriptions.cancel(subscriptionId, { prorate, invoice_now: invoiceNow }, options)),
    create_schedule: async ({ subscriptionId }, options) =>
      result(await schedules.create({ from_subscription: subscriptionId }, options)),
    schedule_switch: async (params, options) =>
      result(await schedules.update(params.scheduleId, request.toScheduleSwitch(params), options)),
    schedule_end: async (params, options) =>
      result(await schedules.update(params.scheduleId, request.toScheduleEnd(params), options)),
    update_schedule_method: async ({ scheduleId, defaultPaymentMethodId: method }, options) =>
      result(await schedules.update(scheduleId, { default_settings: { default_payment_method: method } }, options)),
    release_schedule: async ({ scheduleId }, options) =>
      result(await schedules.release(scheduleId, { preserve_cancel_date: true }, options)),
    pause_subscription: async ({ subscriptionId }, options) => {
      const billFor = { unused_time_from: { type: 'none' }, outstanding_usage_through: { type: 'now' } } as const
      return result(await subscriptions.pause(subscriptionId, { bill_for: billFor }, options))
    },
    resume_subscription: async ({ subscriptionId, keepsPeriod }, options) =>
      result(
        await subscriptions.resume(
          subscriptionId,
          keepsPeriod === true
            ? { billing_cycle_anchor: { type: 'unchanged' }, proration_behavior: 'none' }
            : { billing_cycle_anchor: { type: 'now' } },
          options,
        ),
      ),
    create_invoice_item: async ({ customerId, billWithSubscriptionId: id, ...terms }, options) => {
      const subscription = id === null ? {} : { subscription: id }
      const item = await stripe.invoiceItems.create({ customer: customerId, ...subscription, ...toInvoiceItem(terms) }, options)
      return result({ id: item.id })
    },
    pay_invoice: async ({ invoiceId, paymentMethodId }, options) =>
      result(await invoices.pay(invoiceId, paymentMethodId === null ? {} : { payment_method: paymentMethodId }, options)),
    void_invoice: async ({ invoiceId }, options) => result(await invoices.voidInvoice(invoiceId, {}, options)),
    create_test_clock: async ({ name, nowUnix }, options) =>
      result(await testHelpers.testClocks.create({ name, frozen_time: nowUnix }, options)),
    advance_test_clock: async ({ testClockId, toUnix: to }, options) =>
      result(await testHelpers.testClocks.advance(testClockId, { frozen_time: to }, options)),
    create_product: async ({ name, description, metadata }, options) =>
      result(
        await stripe.products.create(
          { name, metadata: { ...metadata }, ...(description === '' ? {} : { description }) },
          options,
        ),
      ),
    update_product: async ({ productId, name, description }, options) =>
      result(await stripe.products.update(productId, { name, description }, options)),
    create_price: async (params, options) => result(await stripe.prices.create(request.toPrice(params), options)),
    create_usage_price: async (params, options) =>
      result(
        await stripe.prices.create(
          request.toUsagePrice(params, (text) => Stripe.Decimal.from(text)),
          options,
        ),
      ),
    sell_price: async ({ priceId, lookupKey }, options) =>
      result(await stripe.prices.update(priceId, { active: true, lookup_key: lookupKey, transfer_lookup_key: true }, options)),
    create_meter: async (params, options) => result(await stripe.billing.meters.create(request.toMeter(params), options)),
    create_coupon: async (params, options) => result(await stripe.coupons.create(request.toCoupon(params), options)),
    create_promotion_code: async ({ couponId, code }, options) =>
      result(await stripe.promotionCodes.create({ code, promotion: { type: 'coupon', coupon: couponId } }, options)),
  }
}

function toTestClock(clock: Stripe.TestHelpers.TestClock): TestClockSnapshot {
  return { id: clock.id, status: clock.status as TestClockSnapshot['status'], now: fromUnix(clock.frozen_time) }
}
