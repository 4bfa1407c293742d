import type { Module } from './engine/module.ts'
import { couponsModule } from './resources/catalog/coupons.ts'
import { discountsModule } from './resources/catalog/discounts.ts'
import { promotionCodesModule } from './resources/catalog/promotion-codes.ts'
import { creditNotesModule } from './resources/invoices/credit-notes.ts'
import { invoiceItemsModule } from './resources/invoices/invoice-items.ts'
import { invoicePaymentsModule } from './resources/invoices/invoice-payments.ts'
import { invoicesModule } from './resources/invoices/invoices.ts'
import { settlementModule } from './resources/invoices/settlement.ts'
import { subscriptionSchedulesModule } from './resources/subscriptions/schedules.ts'
import { subscriptionItemsModule } from './resources/subscriptions/subscription-items.ts'
import { subscriptionsModule } from './resources/subscriptions/subscriptions.ts'
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
