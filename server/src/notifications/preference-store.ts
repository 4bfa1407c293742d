import type { Queryable } from '../db/database.ts'
import type { Instant } from '../lib/clock.ts'
import type { NotificationKind } from './kinds.ts'

/** As recipient: the organization's billing address. A member is named by the user's id. */
export const BILLING_ADDRESS = 'billing'

export type Choice = {
  readonly organizationId: string
  readonly recipient: string
  readonly kind: NotificationKind
  readonly wanted: boolean
}

export async function upsertChoice(db: Queryable, { organizationId, recipient, kind, wanted }: Choice): Promise<void> {
  await db.query(
    `insert into notification_preferences (organization_id, recipient, kind, wanted) values ($1, $2, $3, $4)
     on conflict (organization_id, recipient, kind) do update set wanted = excluded.wanted`,
    [organizationId, recipient, kind, wanted],
  )
}

export async function listChoices(
  db: Queryable,
  organizationId: string,
  recipients: readonly string[],
): Promise<readonly Choice[]> {
  const { rows } = await db.query<Choice>(
    `select organization_id as "organizationId", recipient, kind, wanted from notification_preferences
     where organization_id = $1 and recipient = any($2)`,
    [organizationId, recipients],
  )
  return rows
}

/** Everybody who may be mailed about an organization, with what they chose. */
export type Addressee = {
  readonly organizationId: string
  readonly organizationName: string
  /** The organization's time, where it lives on a test clock. */
  readonly testClockNow: Instant | null
  readonly recipient: string
  readonly email: string
  readonly choices: Readonly<Partial<Record<NotificationKind, boolean>>>
}

/** The billing addresses of organizations, and those of their members who chose anything. */
export async function listAddressees(db: Queryable, organizationIds: readonly string[]): Promise<readonly Addressee[]> {
  const { rows } = await db.query<Addressee>(
    `select organization.id as "organizationId", organization.name as "organizationName", organization.test_clock_now as "testClockNow",
       person.recipient, person.email,
       coalesce((select jsonb_object_agg(kind, wanted) from notification_preferences preference
         where preference.organization_id = organization.id and preference.recipient = person.recipient), '{}') as choices
     from organizations organization
     cross join lateral (
       select $2::text as recipient, organization.email
       union all
       select member.user_id, person.email from organization_members member
       join users person on person.id = member.user_id
       where member.organization_id = organization.id and exists (
         select 1 from notification_preferences
         where organization_id = organization.id and recipient = member.user_id and wanted)
     ) person
     where organization.id = any($1)`,
    [organizationIds, BILLING_ADDRESS],
  )
  return rows
}
