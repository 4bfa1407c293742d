import type { Wire } from '../wire.gen.ts'
import type { BillingShapes } from './billing.ts'
import type { CoreShapes } from './core.ts'
import type { PaymentShapes } from './payments.ts'

/**
 * How objects are stored. `Shapes` says per object name where the stored form differs from the wire form: a field that holds an id
 * instead of an embedded object, `never` for a field that the renderer composes, and `_` for what the sandbox alone needs to know.
 */
type Shapes = CoreShapes & BillingShapes & PaymentShapes

type Shape<K> = K extends keyof Shapes ? Shapes[K] : object
type Composed<S> = { [F in keyof S as S[F] extends never ? (F extends string ? F : never) : never]: true }
type Replaced<S> = { [F in keyof S as S[F] extends never ? never : F]: S[F] }

/** The stored form of an object: `Stored<'subscription'>`. Immutable; change it with `ctx.update`. */
export type Stored<K extends StoredName> = K extends keyof Wire
  ? Omit<Wire[K], keyof Composed<Shape<K>> | keyof Shape<K>> & Replaced<Shape<K>>
  : Replaced<Shape<K>>

/** Names of everything that is stored: the wire's objects, and internal kinds whose names begin with `_`. */
export type StoredName = keyof Wire | keyof Shapes

/** What every stored object has in common. */
export interface StoredObject {
  readonly id: string
  readonly object?: string
  readonly _?: Readonly<Record<string, unknown>>
  readonly [field: string]: unknown
}
