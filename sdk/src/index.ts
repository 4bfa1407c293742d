export {
  createCallCounter,
  type CallCounter,
  type CallCounterOptions,
  type CountedRequest,
  type DroppedCalls,
} from './call-counter.ts'
export { createCoalescingClient, type CoalesceOptions } from './coalesce.ts'
export type { EntitlementAnswer, FeatureValue } from './entitlements.ts'
export { TollgateError, TollgateUnreachableError, type Problem } from './errors.ts'
export { checkFeature, checkStanding, type GateRefusal } from './gated-call.ts'
export { beginMeteredCall, isSuccess, type CallOutcome, type MeteredCall, type MeteredCallOptions } from './metered-call.ts'
export { creditHeaders, describeRefusal, statusOfRefusal, type RefusalStatus } from './quota.ts'
export {
  createMemoryQueue,
  nameOf,
  type LocalQueue,
  type ParkedCall,
  type QueuedCall,
  type QueuedRetraction,
  type QueuedSettlement,
  type QueuedUse,
} from './queue.ts'
export { createRecorders, type CheckResult, type Recorder } from './recorders.ts'
export { createResilientClient, type ResilientClient, type ResilientOptions, type UnreachableAnswer } from './resilient.ts'
export type { TransportOptions } from './transport.ts'
export * from './usage.ts'
