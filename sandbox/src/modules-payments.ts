import type { Module } from './engine/module.ts'

/** Payment methods, intents, charges, refunds, disputes, checkout, portal, and the pages of these. */
export const paymentModules: readonly Module[] = []
