import type { CouponSnapshot, MeterFault, PriceSnapshot } from './gateway.ts'
import { idOf } from './wire.ts'

/** A decimal of the SDK's own, or its text. */
type WireDecimal = { toString(): string } | string

type WirePrice = {
  readonly id: string
  readonly product: string | { readonly id: string }
  readonly active: boolean
  readonly currency: string
  readonly unit_amount: number | null
  readonly unit_amount_decimal: WireDecimal | null
  readonly recurring: { readonly interval: string; readonly interval_count: number; readonly meter: string | null } | null
  readonly lookup_key: string | null
  readonly metadata: Readonly<Record<string, string>>
}

export function toPriceSnapshot(price: WirePrice): PriceSnapshot {
  return {
    id: price.id,
    productId: idOf(price.product) ?? '',
    active: price.active,
    currency: price.currency,
    unitAmountMinor: price.unit_amount,
    unitAmountDecimal: price.unit_amount_decimal?.toString() ?? null,
    interval: price.recurring?.interval ?? null,
    intervalCount: price.recurring?.interval_count ?? 1,
    meterId: price.recurring?.meter ?? null,
    lookupKey: price.lookup_key,
    metadata: price.metadata,
  }
}

type WireCoupon = {
  readonly id: string
  readonly percent_off: number | null
  readonly amount_off: number | null
  readonly currency: string | null
  readonly duration: string
  readonly duration_in_months: number | null
  readonly max_redemptions: number | null
  readonly times_redeemed: number
  readonly valid: boolean
}

export function toCouponSnapshot(coupon: WireCoupon): CouponSnapshot {
  return {
    id: coupon.id,
    percentOff: coupon.percent_off === null ? null : String(coupon.percent_off),
    amountOffMinor: coupon.amount_off,
    currency: coupon.currency,
    duration: coupon.duration,
    durationInMonths: coupon.duration_in_months,
    maxRedemptions: coupon.max_redemptions,
    timesRedeemed: coupon.times_redeemed,
    valid: coupon.valid,
  }
}

type WireMeterFault = {
  readonly id: string
  readonly type: string
  readonly livemode: boolean
  readonly created: string
  readonly related_object?: { readonly id: string } | null
  readonly data: {
    readonly developer_message_summary: string
    readonly reason: {
      readonly error_count: number
      readonly error_types: readonly {
        readonly code: string
        readonly sample_errors: readonly { readonly request: { readonly identifier: string } }[]
      }[]
    }
  }
}

/** Whether a thin event tells of reports that are wrong. */
export function isMeterFault({ type }: { readonly type: string }): boolean {
  return /^v1\.billing\.meter\.(error_report_triggered|no_meter_found)$/.test(type)
}

export function toMeterFault(event: WireMeterFault): MeterFault {
  const { id, type, livemode, created, data, related_object: related } = event
  return {
    eventId: id,
    type,
    livemode,
    meterId: related?.id ?? null,
    payload: JSON.stringify(event),
    createdAt: new Date(created),
    summary: data.developer_message_summary,
    count: data.reason.error_count,
    samples: data.reason.error_types.flatMap(({ code, sample_errors: samples }) =>
      samples.map(({ request }) => ({ identifier: request.identifier, code })),
    ),
  }
}
