import type { Module } from './engine/module.ts'
import { forgetEvents, forgetOldAnswers } from './events/retention.ts'
import { forgetAnswers } from './http/idempotency.ts'
import { entitlementsModule } from './resources/catalog/entitlements.ts'
import { plansModule } from './resources/catalog/plans.ts'
import { pricesModule } from './resources/catalog/prices.ts'
import { productsModule } from './resources/catalog/products.ts'
import { taxRatesModule } from './resources/catalog/tax-rates.ts'
import { trialOffersModule } from './resources/catalog/trial-offers.ts'
import { customersModule } from './resources/customers/customers.ts'
import { taxIdsModule } from './resources/customers/tax-ids.ts'
import { eventDestinationsModule } from './resources/event-destinations.ts'
import { eventsModule } from './resources/events.ts'
import { feedbackOptionsModule } from './resources/feedback-options.ts'
import { taxCalculationsModule } from './resources/tax/calculations.ts'
import { taxRegistrationsModule } from './resources/tax/registrations.ts'
import { taxSettingsModule } from './resources/tax/settings.ts'
import { taxTransactionsModule } from './resources/tax/transactions.ts'
import { alertsModule } from './resources/usage/alerts.ts'
import { creditGrantsModule } from './resources/usage/credit-grants.ts'
import { meterEventsModule } from './resources/usage/meter-event-operations.ts'
import { metersModule } from './resources/usage/meters.ts'
import { webhookEndpointsModule } from './resources/webhook-endpoints.ts'

/** Customers, catalog, meters, credits, entitlements, events, webhook endpoints, and the sandbox's own controls. */
export const coreModules: readonly Module[] = [
  { rules: [forgetAnswers], reactions: [forgetEvents, forgetOldAnswers] },
  customersModule,
  productsModule,
  pricesModule,
  plansModule,
  taxRatesModule,
  taxIdsModule,
  taxRegistrationsModule,
  taxSettingsModule,
  taxCalculationsModule,
  taxTransactionsModule,
  creditGrantsModule,
  entitlementsModule,
  alertsModule,
  feedbackOptionsModule,
  trialOffersModule,
  metersModule,
  meterEventsModule,
  eventsModule,
  webhookEndpointsModule,
  eventDestinationsModule,
]
