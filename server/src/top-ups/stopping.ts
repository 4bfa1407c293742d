import type { Queryable } from '../db/database.ts'
import { publishEvent } from '../events/actions.ts'
import type { CatalogRegistry } from '../catalog/registry.ts'
import type { Instant } from '../lib/clock.ts'
import { stopAutoTopUp, type AutoTopUp } from './auto-store.ts'

/** Stops buying by itself after a payment that failed with `method`, until another is there or somebody sets it anew; and tells so. */
export async function stopBuying(
  db: Queryable,
  catalogs: CatalogRegistry,
  { organizationId, balanceKey, topUpKey }: AutoTopUp,
  failure: { readonly at: Instant; readonly code: string; readonly method: string | null },
): Promise<void> {
  const { at, code } = failure
  await stopAutoTopUp(db, { organizationId, balanceKey }, failure)
  const data = { balance: balanceKey, balance_name: balanceNameOf(catalogs, balanceKey), top_up: topUpKey, code }
  const key = `auto_top_up.stopped:${balanceKey}:${at.toISOString()}`
  await publishEvent(db, { organizationId, type: 'auto_top_up.stopped', key, data, occurredAt: at })
}

/** Why nothing is bought of which the tax cannot be worked out. */
export const TAX_LOCATION_MISSING = 'tax_location_missing'

/** As the catalog that packages are bought of calls it. */
export function balanceNameOf(catalogs: CatalogRegistry, balanceKey: string): string {
  return catalogs.current.catalog.balances.get(balanceKey)?.name ?? balanceKey
}
