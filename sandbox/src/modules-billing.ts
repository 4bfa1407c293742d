import type { Module } from './engine/module.ts'

/** Subscriptions, invoices, coupons, schedules, test clocks. */
export const billingModules: readonly Module[] = []
