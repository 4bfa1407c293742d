import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { OnboardingStep } from './rules.ts'

/** A walk through the six steps of KF-4. It is all in the database, so it survives a restart. */
export type OnboardingSession = {
  readonly id: string
  readonly organizationId: string
  readonly step: OnboardingStep
  readonly setupIntentId: string | null
  readonly planKey: string | null
  readonly priceId: string | null
  readonly discountCode: string | null
  readonly subscriptionId: string | null
}

export type NewSession = {
  readonly id: string
  readonly organizationId: string
  readonly companyName: string
  readonly contactName: string
  readonly email: string
  readonly phone: string | null
}

/** Makes a session, unless it is there. */
export async function insertSession(db: Queryable, session: NewSession, now: Instant): Promise<void> {
  await db.query(
    `insert into onboarding_sessions (organization_id, id, step, company_name, contact_name, email, phone, created_at, updated_at)
     values ($1, $2, 'create_customer', $3, $4, $5, $6, $7, $7)
     on conflict do nothing`,
    [session.organizationId, session.id, session.companyName, session.contactName, session.email, session.phone, now],
  )
}

export async function findSession(db: Queryable, id: string): Promise<OnboardingSession | null> {
  const { rows } = await db.query<OnboardingSession>(
    `select id, organization_id as "organizationId", step, setup_intent_id as "setupIntentId", plan_key as "planKey",
       price_id as "priceId", discount_code as "discountCode", subscription_id as "subscriptionId"
     from onboarding_sessions where id = $1`,
    [id],
  )
  return rows[0] ?? null
}

/** What a step made; a field that it does not name stays as it is. */
export type Progress = {
  readonly setupIntentId?: string
  readonly planKey?: string
  readonly priceId?: string
  readonly discountCode?: string | null
  readonly subscriptionId?: string | null
  readonly completedAt?: Instant
}

export async function updateSession(
  db: Queryable,
  session: Progress & { readonly id: string; readonly step: OnboardingStep },
  now: Instant,
): Promise<void> {
  await db.query(
    `update onboarding_sessions set step = $2, updated_at = $3, setup_intent_id = coalesce($4, setup_intent_id),
       plan_key = coalesce($5, plan_key), price_id = coalesce($6, price_id),
       discount_code = case when $7 then $8 else discount_code end, subscription_id = coalesce($9, subscription_id),
       completed_at = coalesce($10, completed_at)
     where id = $1`,
    [
      session.id,
      session.step,
      now,
      session.setupIntentId ?? null,
      session.planKey ?? null,
      session.priceId ?? null,
      session.discountCode !== undefined,
      session.discountCode ?? null,
      session.subscriptionId ?? null,
      session.completedAt ?? null,
    ],
  )
}

export async function findNewestPaymentMethod(db: Queryable, organizationId: string): Promise<string | null> {
  const { rows } = await db.query<{ id: string }>(
    'select id from stripe_payment_methods where organization_id = $1 order by created_at desc, id desc limit 1',
    [organizationId],
  )
  return rows[0]?.id ?? null
}
