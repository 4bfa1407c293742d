import type { Stored, StoredName, StoredObject } from '../model/stored.ts'
import type { OperationKey, Params, Wire } from '../wire.gen.ts'
import type { PageRoute } from '../http/pages.ts'
import type { Ctx } from './context.ts'

/** `{id}` and the like of a path template, as an object of strings. */
export type PathOf<Key extends string> = Key extends `${string}{${infer Name}}${infer Rest}`
  ? { readonly [N in Name]: string } & PathOf<Rest>
  : unknown

/** One operation of the contract and what carries it out. Make it with `operation()`. */
export interface Operation {
  readonly on: OperationKey
  /** Parameters understood; any other that the contract knows is refused by name. */
  readonly takes: readonly string[]
  /** Parts of a taken parameter that are not understood, as dotted paths without indexes: `items.trial`. */
  readonly refuses: readonly string[]
  /** True for operations that Stripe.js may call with a publishable key. */
  readonly publishable: boolean
  /** True for the operation that a meter event session's token is for, instead of an API key. */
  readonly sessionOnly: boolean
  readonly run: (ctx: Ctx, params: Record<string, unknown>, path: Record<string, string>) => object
}

interface OperationDeclaration<Key extends OperationKey, Taken extends keyof Params[Key]> {
  readonly on: Key
  readonly takes: readonly Taken[]
  readonly refuses?: readonly string[]
  readonly publishable?: boolean
  readonly sessionOnly?: boolean
  /** Carries the operation out; returns the stored object, a list, or any plain object to answer. */
  readonly run: (ctx: Ctx, params: Pick<Params[Key], Taken>, path: PathOf<Key>) => object
}

/** Declares an operation. `expand` needs no mention: the engine takes care of it. */
export function operation<Key extends OperationKey, Taken extends keyof Params[Key] = never>(
  declaration: OperationDeclaration<Key, Taken>,
): Operation {
  return {
    on: declaration.on,
    takes: declaration.takes as readonly string[],
    refuses: declaration.refuses ?? [],
    publishable: declaration.publishable ?? false,
    sessionOnly: declaration.sessionOnly ?? false,
    run: declaration.run as unknown as Operation['run'],
  }
}

/** How a kind of stored object becomes the object on the wire. Needed only where the two differ. Make it with `presenter()`. */
export interface Presenter {
  readonly name: StoredName
  /** Fields computed each time: embedded objects and lists. */
  readonly compose: (object: StoredObject, ctx: Ctx) => Record<string, unknown>
  /** Fields that are left out until `expand` names them; each says how to find the value. */
  readonly onExpand: Readonly<Record<string, (object: StoredObject, ctx: Ctx) => unknown>>
}

interface PresenterDeclaration<K extends StoredName> {
  readonly compose?: (
    object: Stored<K>,
    ctx: Ctx,
  ) => K extends keyof Wire ? Partial<{ [F in keyof Wire[K]]: unknown }> : Record<string, unknown>
  readonly onExpand?: Readonly<Record<string, (object: Stored<K>, ctx: Ctx) => unknown>>
}

/** Declares how a kind of object is presented. */
export function presenter<K extends StoredName>(name: K, declaration: PresenterDeclaration<K>): Presenter {
  return {
    name,
    compose: (declaration.compose as Presenter['compose'] | undefined) ?? (() => ({})),
    onExpand: (declaration.onExpand as Presenter['onExpand'] | undefined) ?? {},
  }
}

/**
 * Something that happens by itself when a time comes. No task is stored: after every write of an object the time is asked again, so the
 * object's state is the only truth.
 */
export interface TimeRule {
  /** For messages: `invoice: finalize the draft`. */
  readonly name: string
  readonly object: StoredName
  /** Rules due in the same second run in ascending order; 50 unless told. */
  readonly order: number
  /** Unix seconds at which `run` must happen, or null. Reads only the object itself (and what never changes). */
  readonly due: (object: StoredObject, ctx: Ctx) => number | null
  /** Makes it happen. Must change the object so that `due` gives a later time or null. `ctx.now()` is the time that was due. */
  readonly run: (object: StoredObject, ctx: Ctx) => void
}

/** Declares a time-driven rule. */
export function timeRule<K extends StoredName>(rule: {
  readonly name: string
  readonly object: K
  readonly order?: number
  readonly due: (object: Stored<K>, ctx: Ctx) => number | null
  readonly run: (object: Stored<K>, ctx: Ctx) => void
}): TimeRule {
  return {
    name: rule.name,
    object: rule.object,
    order: rule.order ?? 50,
    due: rule.due as unknown as TimeRule['due'],
    run: rule.run as unknown as TimeRule['run'],
  }
}

/**
 * Something that follows at once from a change of an object, in the same transaction: entitlements from subscriptions, alerts from usage.
 * Runs once for each object that a transaction changed, after its work is done; `before` or `after` is undefined for a new or deleted one.
 */
export interface Reaction {
  readonly object: StoredName
  readonly react: (
    ctx: Ctx,
    change: { readonly before: StoredObject | undefined; readonly after: StoredObject | undefined },
  ) => void
}

/** Declares a reaction. */
export function reaction<K extends StoredName>(
  object: K,
  react: (ctx: Ctx, change: { readonly before: Stored<K> | undefined; readonly after: Stored<K> | undefined }) => void,
): Reaction {
  return { object, react: react as unknown as Reaction['react'] }
}

/** A part of the sandbox: its operations, presenters, rules and pages. Listed in `src/modules.ts`. */
export interface Module {
  readonly operations?: readonly Operation[]
  readonly presenters?: readonly Presenter[]
  readonly rules?: readonly TimeRule[]
  readonly reactions?: readonly Reaction[]
  readonly pages?: readonly PageRoute[]
}
