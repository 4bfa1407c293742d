import type { Module } from './engine/module.ts'
import { challengePages } from './pages/challenge.ts'
import { checkoutPages } from './pages/checkout.ts'
import { invoicePages } from './pages/invoice.ts'
import { portalCancelPages } from './pages/portal-cancel.ts'
import { portalDetailsPages } from './pages/portal-details.ts'
import { portalPausePages } from './pages/portal-pause.ts'
import { portalUpdatePages } from './pages/portal-update.ts'
import { portalPages } from './pages/portal.ts'
import { receiptPages } from './pages/receipt.ts'
import { stylesheetPage } from './pages/respond.ts'
import { setupPages } from './pages/setup.ts'
import { debitRules } from './payments/debits.ts'
import './payments/invoice-payments.ts'
import { customerSessionsModule } from './resources/customers/customer-sessions.ts'
import { balanceTransactionsModule } from './resources/payments/balance-transactions.ts'
import { billingPortalModule } from './resources/payments/billing-portal.ts'
import { chargesModule } from './resources/payments/charges.ts'
import { checkoutSessionsModule } from './resources/payments/checkout-sessions.ts'
import { disputesModule } from './resources/payments/disputes.ts'
import { mandatesModule } from './resources/payments/mandates.ts'
import { paymentIntentsModule } from './resources/payments/payment-intents.ts'
import { paymentMethodsModule } from './resources/payments/payment-methods.ts'
import { refundsModule } from './resources/payments/refunds.ts'
import { setupIntentsModule } from './resources/payments/setup-intents.ts'

/** Payment methods, intents, charges, refunds, disputes, checkout, portal, and the pages of these. */
export const paymentModules: readonly Module[] = [
  paymentMethodsModule,
  setupIntentsModule,
  paymentIntentsModule,
  chargesModule,
  refundsModule,
  disputesModule,
  balanceTransactionsModule,
  mandatesModule,
  checkoutSessionsModule,
  billingPortalModule,
  customerSessionsModule,
  { rules: debitRules },
  {
    pages: [
      stylesheetPage,
      ...checkoutPages,
      ...challengePages,
      ...setupPages,
      ...portalPages,
      ...portalUpdatePages,
      ...portalCancelPages,
      ...portalPausePages,
      ...portalDetailsPages,
      ...invoicePages,
      ...receiptPages,
    ],
  },
]
