import { z } from '@hono/zod-openapi'
import { quantityToJson } from '../lib/quantity.ts'
import { formatUnitAmount } from '../lib/unit-amount.ts'
import type { UsagePrice } from './catalog.ts'

/** What use costs, as answers tell it. */
export const priceSchema = z.object({
  model: z.string(),
  unit_amount_minor: z.string().optional().meta({ description: 'Of one unit, minor units as an exact decimal.' }),
  package_size: z.union([z.number(), z.string()]).optional(),
  package_amount_minor: z.int().optional(),
  tiers: z
    .array(
      z.object({
        up_to: z.union([z.number(), z.string()]).nullable(),
        unit_amount_minor: z.string(),
        flat_amount_minor: z.int(),
      }),
    )
    .optional(),
})

export function showPrice(price: UsagePrice): z.infer<typeof priceSchema> {
  const { model } = price
  if (model === 'per_unit') return { model, unit_amount_minor: formatUnitAmount(price.unitAmount) }
  if (model === 'package') return { model, package_size: quantityToJson(price.size), package_amount_minor: price.amountMinor }
  return {
    model,
    tiers: price.tiers.map(({ upTo, unitAmount, flatAmountMinor }) => ({
      up_to: upTo === null ? null : quantityToJson(upTo),
      unit_amount_minor: formatUnitAmount(unitAmount),
      flat_amount_minor: flatAmountMinor,
    })),
  }
}
