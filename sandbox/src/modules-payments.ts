import type { Module } from './engine/module.ts'
import './payments/invoice-payments.ts'
import { debitRules } from './payments/debits.ts'
import { balanceTransactionsModule } from './resources/balance-transactions.ts'
import { challengePages } from './pages/challenge.ts'
import { checkoutPages } from './pages/checkout.ts'
import { invoicePages } from './pages/invoice.ts'
import { receiptPages } from './pages/receipt.ts'
import { stylesheetPage } from './pages/respond.ts'
import { portalCancelPages } from './pages/portal-cancel.ts'
import { portalDetailsPages } from './pages/portal-details.ts'
import { portalPausePages } from './pages/portal-pause.ts'
import { portalUpdatePages } from './pages/portal-update.ts'
import { portalPages } from './pages/portal.ts'
import { setupPages } from './pages/setup.ts'
import { billingPortalModule } from './resources/billing-portal.ts'
import { chargesModule } from './resources/charges.ts'
import { checkoutSessionsModule } from './resources/checkout-sessions.ts'
import { customerSessionsModule } from './resources/customer-sessions.ts'
import { disputesModule } from './resources/disputes.ts'
import { mandatesModule } from './resources/mandates.ts'
import { paymentIntentsModule } from './resources/payment-intents.ts'
import { paymentMethodsModule } from './resources/payment-methods.ts'
import { refundsModule } from './resources/refunds.ts'
import { setupIntentsModule } from './resources/setup-intents.ts'

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
