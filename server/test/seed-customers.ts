import type { Db } from '../src/db/database.ts'

export type Seed = {
  readonly organizations: number
  readonly invoicesEach: number
  readonly catalogVersion: number
}

/**
 * Fills the mirror, as large as is asked for: organizations `seed_00001` … with a customer, a subscription and its item (plans, states and
 * currencies mixed), an account, what it brings, and invoices with their charges. By SQL alone: a million rows in about a minute.
 */
export async function seedCustomers(db: Db, { organizations, invoicesEach, catalogVersion }: Seed): Promise<void> {
  const prefix = 'seed_'
  await db.transaction(async (tx) => {
    await tx.query('create temporary table seeds on commit drop as select * from (' + SEEDS + ') seeds', [organizations, prefix])
    await tx.query(`insert into organizations (id, name, email, stripe_customer_id, created_at)
      select id, 'Customer ' || n, 'owner-' || n || '@example.com', customer, at from seeds`)
    await tx.query(
      `insert into plan_prices (stripe_price_id, stripe_product_id, plan_key, price_key, catalog_version, created_at, superseded_at)
       select 'price_seed_' || plan, 'prod_seed_' || plan, plan, 'monthly', $1, '2025-01-01', '2025-01-01'
       from (values ('starter'), ('pro'), ('enterprise')) plans (plan) on conflict do nothing`,
      [catalogVersion],
    )
    await tx.query(
      `insert into accounts (organization_id, plan_key, catalog_version, subscription_id, subscription_status, current_period_start,
         current_period_end, payment_failed_at, updated_at)
       select id, plan, $1, subscription, status, at, at + interval '1 month', case when status = 'past_due' then at end, at from seeds`,
      [catalogVersion],
    )
    await tx.query(`insert into stripe_customers (organization_id, id, deleted, email, name, currency, balance_minor, delinquent, created_at,
        data, refreshed_at)
      select id, customer, false, 'owner-' || n || '@example.com', 'Customer ' || n, currency, 0, false, at, '{}', at from seeds`)
    await tx.query(`insert into stripe_subscriptions (organization_id, id, customer_id, status, currency, collection_method,
        cancel_at_period_end, created_at, data, refreshed_at)
      select id, subscription, customer, status, currency, 'charge_automatically', false, at, '{}', at from seeds`)
    await tx.query(`insert into stripe_subscription_items (organization_id, subscription_id, id, price_id, product_id, quantity,
        unit_amount_minor, currency, billing_interval, interval_count, usage_type, current_period_start, current_period_end)
      select id, subscription, 'si_' || id, 'price_seed_' || plan, 'prod_seed_' || plan, 1, amount, currency, 'month', 1, 'licensed', at,
        at + interval '1 month' from seeds`)
    await tx.query(`insert into mrr_accounts (organization_id, currency, plan_key, status, mrr, movements, moved_at, first_paid_at)
      select id, currency, plan, status, case when status in ('active', 'past_due') then amount * 1000000::bigint else 0 end, 1, at, at from seeds`)
    await tx.query(
      `insert into stripe_invoices (organization_id, id, customer_id, subscription_id, number, status, billing_reason, collection_method,
         currency, subtotal_minor, total_minor, amount_due_minor, amount_paid_minor, amount_remaining_minor, attempted, attempt_count,
         period_start, period_end, finalized_at, paid_at, created_at, data, refreshed_at)
       select id, 'in_' || id || '_' || i, customer, subscription, 'SEED-' || lpad(n::text, greatest(5, length(n::text)), '0') || '-' || lpad(i::text, 4, '0'), state,
         'subscription_cycle', 'charge_automatically', currency, amount, amount, amount, case state when 'paid' then amount else 0 end,
         case state when 'paid' then 0 else amount end, true, 1, moment, moment, moment, case state when 'paid' then moment end, moment,
         '{}', moment
       from seeds, generate_series(1, $1::int) i,
       lateral (select at + i * interval '7 hours' as moment, case when (n + i) % 50 = 0 then 'open' else 'paid' end as state) one`,
      [invoicesEach],
    )
    await tx.query(
      `insert into stripe_charges (organization_id, id, customer_id, amount_minor, amount_refunded_minor, currency, status, paid, refunded,
         disputed, created_at, data, refreshed_at)
       select id, 'ch_' || id || '_' || i, customer, amount, 0, currency, 'succeeded', true, false, false, at + i * interval '7 hours', '{}', at
       from seeds, generate_series(1, least($1::int, 3)) i`,
      [invoicesEach],
    )
  })
  for (const table of [...CUSTOMER_TABLES, 'mrr_accounts']) await db.query(`analyze ${table}`)
}

const SEEDS = `select n, $2 || lpad(n::text, greatest(5, length(n::text)), '0') as id, 'cus_' || $2 || lpad(n::text, greatest(5, length(n::text)), '0') as customer,
    'sub_' || $2 || lpad(n::text, greatest(5, length(n::text)), '0') as subscription,
    (array['starter', 'pro', 'enterprise'])[1 + n % 3] as plan,
    (array['active', 'active', 'active', 'active', 'trialing', 'active', 'active', 'past_due', 'active', 'canceled'])[1 + n % 10] as status,
    case when n % 7 = 0 then 'eur' else 'usd' end as currency, 1000 + (n % 90) * 100 as amount,
    timestamptz '2025-01-01' + n * interval '3 minutes' as at
  from generate_series(1, $1::int) n`

/** What is known of a customer, from the organization to its charges; the referenced ones first. */
export const CUSTOMER_TABLES = [
  'organizations',
  'accounts',
  'stripe_customers',
  'stripe_subscriptions',
  'stripe_subscription_items',
  'stripe_invoices',
  'stripe_charges',
] as const
