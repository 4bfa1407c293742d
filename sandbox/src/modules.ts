import type { Module } from './engine/module.ts'
import { billingModules } from './modules-billing.ts'
import { coreModules } from './modules-core.ts'
import { paymentModules } from './modules-payments.ts'

/** Everything the sandbox does. */
export const modules: readonly Module[] = [...coreModules, ...billingModules, ...paymentModules]
