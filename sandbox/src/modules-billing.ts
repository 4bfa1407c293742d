import type { Module } from './engine/module.ts'
import { couponsModule } from './resources/coupons.ts'
import { creditNotesModule } from './resources/credit-notes.ts'
import { discountsModule } from './resources/discounts.ts'
import { invoiceItemsModule } from './resources/invoice-items.ts'
import { invoicePaymentsModule } from './resources/invoice-payments.ts'
import { settlementModule } from './resources/invoice-settlement.ts'
import { invoicesModule } from './resources/invoices.ts'
import { promotionCodesModule } from './resources/promotion-codes.ts'
import { subscriptionItemsModule } from './resources/subscription-items.ts'
import { subscriptionSchedulesModule } from './resources/subscription-schedules.ts'
import { subscriptionsModule } from './resources/subscriptions.ts'
import { testClocksModule } from './resources/test-clocks.ts'

/** Subscriptions, invoices, coupons, schedules, test clocks. */
export const billingModules: readonly Module[] = [
  testClocksModule,
  couponsModule,
  promotionCodesModule,
  discountsModule,
  subscriptionsModule,
  subscriptionItemsModule,
  subscriptionSchedulesModule,
  invoicesModule,
  invoiceItemsModule,
  invoicePaymentsModule,
  creditNotesModule,
  settlementModule,
]
