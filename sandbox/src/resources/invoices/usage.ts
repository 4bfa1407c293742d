/** Usage that arrives while a draft waits: the metered lines of a renewal are made again before it is finalized. */
import { decimal, formatDecimal, type Decimal } from '../../billing/decimal.ts'
import { draftsTakeUsageUntilFinalized } from '../../billing/inferred.ts'
import type { Ctx } from '../../engine/context.ts'
import type { StoredLine } from '../../model/billing.ts'
import { usageOf } from '../usage/meter-usage.ts'
import type { StoredInvoice } from './compose.ts'
import { meteredLines } from './lines.ts'

/** The lines of a draft with the usage of their periods as it is known now; those of pending items stay as they are. */
export function withPresentUsage(ctx: Ctx, invoice: StoredInvoice): StoredInvoice {
  if (!draftsTakeUsageUntilFinalized()) return invoice
  const groups = Map.groupBy(invoice._.lines, usageKeyOf)
  const lines = [...groups].flatMap(([key, group]) => (key === null ? group : presentLines(ctx, invoice, group)))
  return { ...invoice, _: { ...invoice._, lines } }
}

/** Lines of one item, price and period are the parts of one quantity; null for lines that no meter decides. */
function usageKeyOf(line: StoredLine): string | null {
  const details = line.parent?.subscription_item_details ?? null
  const price = line.pricing?.price_details?.price
  if (!line._.metered || details === null || details.invoice_item !== null || price === undefined) return null
  return `${details.subscription_item} ${price} ${line.period.start} ${line.period.end}`
}

function presentLines(ctx: Ctx, invoice: StoredInvoice, group: readonly StoredLine[]): readonly StoredLine[] {
  const [first] = group
  const subscription = invoice._.subscription === null ? undefined : ctx.get('subscription', invoice._.subscription)
  const item = subscription?._.items.find(({ id }) => id === first?.parent?.subscription_item_details?.subscription_item)
  const price = first?.pricing?.price_details?.price
  if (first === undefined || subscription === undefined || item === undefined || price === undefined) return group
  const meter = ctx.require('price', price).recurring?.meter ?? null
  if (meter === null) return group
  const quantity = usageOf(ctx, { meter, customer: subscription.customer, from: first.period.start, to: first.period.end })
  const billed = group.reduce((sum, line) => (sum + decimal(line.quantity_decimal ?? '0')) as Decimal, decimal('0'))
  if (formatDecimal(billed) === formatDecimal(quantity)) return group
  const owner = { ...subscription, currency: invoice.currency }
  return meteredLines(ctx, owner, { ...item, price }, { period: first.period, quantity }).map((line) => ({
    ...line,
    invoice: invoice.id,
  }))
}
