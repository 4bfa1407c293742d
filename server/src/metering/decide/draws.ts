import type { Draw } from '../../grants/rules.ts'

/** One draw for each grant. */
export function mergeDraws(draws: readonly Draw[]): Draw[] {
  const merged = new Map<string, Draw>()
  for (const draw of draws) {
    const same = merged.get(draw.grantId)
    merged.set(draw.grantId, same ? { ...same, amount: same.amount + draw.amount, overage: same.overage + draw.overage } : draw)
  }
  return [...merged.values()]
}
