export { TollgateError, TollgateUnreachableError, type Problem } from './errors.ts'
export { creditHeaders, describeRefusal, statusOfRefusal, type RefusalStatus } from './quota.ts'
export type { TransportOptions } from './transport.ts'
export * from './usage.ts'
