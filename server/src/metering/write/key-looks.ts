import type { Outcome } from '../decide/decision.ts'
import type { UsageRequest } from '../usage.ts'

/** Thrown where a group that kept its keys unseen has to start over: nothing of it stays. */
export class KeysWanted extends Error {
  constructor() {
    super('A request stores no event, and must not keep its key.')
    this.name = 'KeysWanted'
  }
}

// After a repeat more are likely: whoever lost one answer lost others, and a host that repeats does so for a while.
const GROUPS = 64

/**
 * Whether a group looks first which of its keys were used before. Most groups hold nothing but new keys: they keep them unseen, before they
 * lock anything, and the index refuses one that is there. Such a group fails whole and is carried out again with a look, and so are the groups
 * after it for a while (docs/decisions/0121-keys-before-the-lock.md).
 */
export class KeyLooks {
  #left = 0

  get wanted(): boolean {
    return this.#left > 0
  }

  /** A look was needed. */
  needed(): void {
    this.#left = GROUPS
  }

  /** What came of a group that looked. */
  learn(requests: readonly UsageRequest[], outcomes: readonly Outcome[]): void {
    if (outcomes.some((outcome, index) => hasKey(requests[index]!) && !isNew(outcome))) this.needed()
    else this.#left -= 1
  }
}

function isNew(outcome: Outcome): boolean {
  return outcome.kind === 'answer' && outcome.answer.eventId !== null && !outcome.answer.replayed
}

function hasKey(request: UsageRequest): boolean {
  return 'idempotencyKey' in request
}

/** Whether every key that was kept unseen has an event. What came too fast or is wrong has none, and may be asked again under its key. */
export function storesAllKeys(requests: readonly UsageRequest[], outcomes: readonly Outcome[]): boolean {
  return requests.every((request, index) => {
    const outcome = outcomes[index]!
    return !hasKey(request) || (outcome.kind === 'answer' && outcome.answer.eventId !== null)
  })
}
