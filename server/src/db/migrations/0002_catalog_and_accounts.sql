-- Each distinct billing.config.ts that was ever loaded; immutable. Accounts name the version whose terms they have.
create table catalog_versions (
  version integer generated always as identity primary key,
  digest text not null unique,
  content jsonb not null,
  created_at timestamptz not null
);

-- Which Stripe price sells which plan. A price that is not here maps to no plan (reference: an unknown price is never free).
create table plan_prices (
  stripe_price_id text primary key,
  stripe_product_id text not null,
  plan_key text not null,
  price_key text not null,
  catalog_version integer not null references catalog_versions (version),
  created_at timestamptz not null
);
create index plan_prices_by_plan on plan_prices (plan_key, price_key);

-- What the gates read: one row an organization, derived from the mirror of Stripe and from overrides, never typed in by a webhook's payload.
create table accounts (
  organization_id text primary key references organizations (id),
  plan_key text not null,
  catalog_version integer not null references catalog_versions (version),
  subscription_id text,
  subscription_status text check (
    subscription_status in ('incomplete', 'incomplete_expired', 'trialing', 'active', 'past_due', 'unpaid', 'canceled', 'paused')
  ),
  current_period_start timestamptz,
  current_period_end timestamptz,
  trial_ends_at timestamptz,
  cancel_at timestamptz,
  -- When the first attempt to collect the oldest invoice that is still open failed; null when nothing is owed.
  payment_failed_at timestamptz,
  -- MR-6: set by an operator, with a reason in the audit log; null where nothing is overridden.
  override_plan_key text,
  override_status text,
  override_trial_ends_at timestamptz,
  override_expires_at timestamptz,
  updated_at timestamptz not null
);
