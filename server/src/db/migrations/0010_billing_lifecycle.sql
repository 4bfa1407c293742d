-- A change of plan that waits for the customer's bank (pending_if_incomplete): until then the old plan stands.
alter table stripe_subscriptions add column pending_update_expires_at timestamptz;

-- KF-12. What a code takes off; Stripe has the coupon, enforces its limits and counts its redemptions.
create table discounts (
  code text primary key check (code ~ '^[A-Z0-9][A-Z0-9_-]{0,49}$'),
  coupon_id text not null unique,
  percent_off numeric(5, 2) check (percent_off > 0 and percent_off <= 100),
  amount_off_minor bigint check (amount_off_minor > 0),
  currency text,
  duration text not null check (duration in ('once', 'repeating', 'forever')),
  duration_in_months integer check (duration_in_months > 0),
  max_redemptions integer check (max_redemptions > 0),
  times_redeemed integer not null default 0,
  valid boolean not null default true,
  refreshed_at timestamptz not null,
  created_at timestamptz not null,
  check ((percent_off is null) <> (amount_off_minor is null)),
  check ((amount_off_minor is null) = (currency is null)),
  check ((duration = 'repeating') = (duration_in_months is not null))
);

-- KF-4. Each session is a walk through six steps; step is the one that is due.
create table onboarding_sessions (
  organization_id text not null references organizations (id),
  id text not null unique,
  step text not null check (step in ('create_customer', 'setup_payment', 'select_plan', 'create_subscription', 'complete', 'completed')),
  company_name text not null,
  contact_name text not null,
  email text not null,
  phone text,
  setup_intent_id text,
  plan_key text,
  price_id text,
  discount_code text,
  subscription_id text,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  completed_at timestamptz,
  primary key (organization_id, id)
);
