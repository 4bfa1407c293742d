import type { Queryable } from '../../db/database.ts'
import type { PacketClient } from '../../db/packet.ts'
import { timeOf } from '../../grants/actions.ts'
import { planGrantAt } from '../../grants/history.ts'
import { changedGrant, type Draw, type Grant, type GrantName, type PlanGrant, type PlanTerms } from '../../grants/rules.ts'
import { findGrantsById, type AccountRow } from '../../grants/store.ts'
import type { Instant } from '../../lib/clock.ts'
import type { Decision } from '../decide/decision.ts'
import type { KnownPast, OrganizationState } from '../decide/ledger.ts'
import type { Present } from './due-levels.ts'

export type Accounts = {
  readonly organizationIds: readonly string[]
  readonly accounts: readonly AccountRow[]
  readonly grants: readonly Grant[]
  readonly now: Instant
}

const NO_PLANS: ReadonlyMap<string, PlanGrant> = new Map()

/** What one transaction has read, by organization. */
export class Gathering {
  readonly accounts: Accounts
  readonly terms: ReadonlyMap<string, PlanTerms>
  readonly times: ReadonlyMap<string, Instant>
  readonly grants = new Map<string, Map<string, Grant>>()
  /** The allowances that stand now by organization and balance, as far as they are asked for. */
  readonly plans = new Map<string, Map<string, PlanGrant>>()
  readonly pasts = new Map<string, KnownPast>()

  constructor(accounts: Accounts, terms: ReadonlyMap<string, PlanTerms>) {
    this.accounts = accounts
    this.terms = terms
    this.times = new Map(accounts.accounts.map((account) => [account.organizationId, timeOf(account, accounts.now)]))
    for (const organizationId of terms.keys()) this.grants.set(organizationId, new Map())
    this.keep(accounts.grants)
  }

  /** An organization's terms at its own time. */
  presentOf(organizationId: string): Present | undefined {
    const terms = this.terms.get(organizationId)
    return terms && { terms, now: this.times.get(organizationId)! }
  }

  /** The plan's allowance that stood at a past moment; null where nothing of the past was read. */
  pastGrantOf(organizationId: string, balanceKey: string, at: Instant): string | null {
    const past = this.pasts.get(organizationId)
    return past ? planGrantAt(this.terms.get(organizationId)!, past.history, balanceKey, at).id : null
  }

  keep(grants: readonly Grant[]): void {
    for (const grant of grants) this.grants.get(grant.organizationId)?.set(grant.id, grant)
  }

  /** Reads and keeps the grants behind draws and holds. */
  async keepDrawn(tx: PacketClient, drawn: readonly Drawn[]): Promise<void> {
    if (drawn.length > 0) this.keep(await findDrawnGrants(tx, drawn, this.grants))
  }

  apply({ grantChanges }: Decision): void {
    for (const change of grantChanges) {
      this.keep([changedGrant(this.grants.get(change.organizationId)!.get(change.id)!, change)])
    }
  }

  states(): ReadonlyMap<string, OrganizationState> {
    const states = new Map<string, OrganizationState>()
    for (const { organizationId, lowMarks } of this.accounts.accounts) {
      const now = this.times.get(organizationId)!
      const terms = this.terms.get(organizationId)!
      const grants = [...this.grants.get(organizationId)!.values()]
      const plans = this.plans.get(organizationId) ?? NO_PLANS
      const past = this.pasts.get(organizationId)
      states.set(organizationId, { organizationId, now, terms, lowMarks, grants, plans, ...(past && { past }) })
    }
    return states
  }
}

/** Draws or holds of an organization: the grants behind them have to be known before they are given back. */
type Drawn = { readonly organizationId: string; readonly draws: readonly Draw[] }

/** The grants behind draws that were not read yet: one may have expired meanwhile. */
export async function findDrawnGrants(
  tx: Queryable,
  drawn: readonly Drawn[],
  grants: ReadonlyMap<string, ReadonlyMap<string, Grant>>,
): Promise<readonly Grant[]> {
  const names: GrantName[] = drawn
    .flatMap(({ organizationId, draws }) => draws.map(({ grantId }) => ({ organizationId, id: grantId })))
    .filter(({ organizationId, id }) => !grants.get(organizationId)?.has(id))
  return names.length === 0 ? [] : findGrantsById(tx, names)
}
