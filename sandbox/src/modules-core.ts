import type { Module } from './engine/module.ts'
import { forgetEvents, forgetOldAnswers } from './events/retention.ts'
import { forgetAnswers } from './http/idempotency.ts'
import { creditGrantsModule } from './resources/credit-grants.ts'
import { taxIdsModule } from './resources/tax-ids.ts'
import { taxRatesModule } from './resources/tax-rates.ts'
import { alertsModule } from './resources/alerts.ts'
import { entitlementsModule } from './resources/entitlements.ts'
import { feedbackOptionsModule } from './resources/feedback-options.ts'
import { trialOffersModule } from './resources/trial-offers.ts'
import { customersModule } from './resources/customers.ts'
import { eventsModule } from './resources/events.ts'
import { webhookEndpointsModule } from './resources/webhook-endpoints.ts'
import { meterEventsModule } from './resources/meter-event-operations.ts'
import { metersModule } from './resources/meters.ts'
import { eventDestinationsModule } from './resources/event-destinations.ts'
import { productsModule } from './resources/products.ts'
import { plansModule } from './resources/plans.ts'
import { pricesModule } from './resources/prices.ts'

/** Customers, catalog, meters, credits, entitlements, events, webhook endpoints, and the sandbox's own controls. */
export const coreModules: readonly Module[] = [
  { rules: [forgetAnswers], reactions: [forgetEvents, forgetOldAnswers] },
  customersModule,
  productsModule,
  pricesModule,
  plansModule,
  taxRatesModule,
  taxIdsModule,
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
