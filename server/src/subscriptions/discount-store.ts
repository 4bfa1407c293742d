import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'

/** What a code takes off, for how long, and how often it may be used. */
export type DiscountTerms = {
  readonly code: string
  /** A decimal text with at most two places. */
  readonly percentOff: string | null
  readonly amountOffMinor: number | null
  readonly currency: string | null
  readonly duration: 'once' | 'repeating' | 'forever'
  readonly durationInMonths: number | null
  readonly maxRedemptions: number | null
}

export type DiscountRow = DiscountTerms & {
  readonly couponId: string
  readonly timesRedeemed: number
  readonly valid: boolean
  readonly createdAt: Instant
}

const COLUMNS = `code, coupon_id as "couponId", percent_off as "percentOff", amount_off_minor as "amountOffMinor", currency,
  duration, duration_in_months as "durationInMonths", max_redemptions as "maxRedemptions", times_redeemed as "timesRedeemed",
  valid, created_at as "createdAt"`

type Row = Omit<DiscountRow, 'amountOffMinor'> & { readonly amountOffMinor: bigint | null }

function toDiscount(row: Row): DiscountRow {
  return { ...row, amountOffMinor: row.amountOffMinor === null ? null : Number(row.amountOffMinor) }
}

export async function findDiscount(db: Queryable, code: string): Promise<DiscountRow | null> {
  const { rows } = await db.query<Row>(`select ${COLUMNS} from discounts where code = $1`, [code])
  return rows[0] ? toDiscount(rows[0]) : null
}

export async function insertDiscount(
  db: Queryable,
  terms: DiscountTerms & { couponId: string },
  now: Instant,
): Promise<DiscountRow> {
  const { rows } = await db.query<Row>(
    `insert into discounts (code, coupon_id, percent_off, amount_off_minor, currency, duration, duration_in_months,
       max_redemptions, refreshed_at, created_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9) returning ${COLUMNS}`,
    [
      terms.code,
      terms.couponId,
      terms.percentOff,
      terms.amountOffMinor,
      terms.currency,
      terms.duration,
      terms.durationInMonths,
      terms.maxRedemptions,
      now,
    ],
  )
  return toDiscount(rows[0]!)
}

export async function updateDiscountUse(
  db: Queryable,
  code: string,
  use: { timesRedeemed: number; valid: boolean },
  now: Instant,
): Promise<void> {
  await db.query('update discounts set times_redeemed = $2, valid = $3, refreshed_at = $4 where code = $1', [
    code,
    use.timesRedeemed,
    use.valid,
    now,
  ])
}
