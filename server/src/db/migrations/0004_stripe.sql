-- What Tollgate knows of Stripe: the inbox of webhooks, the intents of calls, the mirror of objects, and what is derived from it.

-- EM-15: what is stored per customer beside the columns of 0002.
alter table accounts
  add column stripe_price_id text,
  add column price_key text,
  add column quantity bigint,
  add column payment_method_id text,
  add column next_invoice_at timestamptz,
  -- A plan that is taken at the end of the running period (a scheduled downgrade); null when nothing is scheduled.
  add column scheduled_plan_key text,
  add column scheduled_price_key text,
  add column scheduled_at timestamptz;

-- A price that is superseded keeps selling its plan to those who have it; new customers get the one that is not.
alter table plan_prices
  add column amount_minor bigint,
  add column currency text,
  add column superseded_at timestamptz;
create unique index plan_prices_offered on plan_prices (plan_key, price_key) where superseded_at is null;

-- The inbox (MR-11). The row is the job: it is due while handled_at and parked_at are null and next_attempt_at has come.
create table stripe_events (
  event_id text primary key,
  type text not null,
  object_type text not null,
  object_id text,
  -- Read from the payload to know whom to refetch, for nothing else.
  customer_id text,
  livemode boolean not null,
  -- As received, byte for byte.
  payload text not null,
  source text not null check (source in ('webhook', 'reconcile')),
  stripe_created_at timestamptz not null,
  received_at timestamptz not null,
  next_attempt_at timestamptz not null,
  attempts integer not null default 0,
  last_error text,
  organization_id text,
  outcome text check (outcome in ('applied', 'ignored')),
  handled_at timestamptz,
  -- Given up for now after many attempts; a replay takes it up again.
  parked_at timestamptz
);
create index stripe_events_due on stripe_events (next_attempt_at) where handled_at is null and parked_at is null;
create index stripe_events_open_of_customer on stripe_events (customer_id) where handled_at is null;
create index stripe_events_by_organization on stripe_events (organization_id, received_at desc);
create index stripe_events_by_time on stripe_events (received_at desc);

-- Calls to Stripe that change something: stored with their key before the call, with their result after it.
create table stripe_intents (
  organization_id text references organizations (id),
  id text primary key,
  kind text not null,
  params jsonb not null,
  idempotency_key text not null unique,
  state text not null check (state in ('pending', 'succeeded', 'failed', 'abandoned')),
  result jsonb,
  error_code text,
  attempts integer not null default 0,
  created_at timestamptz not null,
  last_attempt_at timestamptz,
  finished_at timestamptz
);
create index stripe_intents_pending on stripe_intents (created_at) where state = 'pending';
create index stripe_intents_by_organization on stripe_intents (organization_id, created_at desc);

-- The mirror: refetched objects, upserted by id. Typed columns are those that are queried; data is the whole object.
create table stripe_customers (
  organization_id text not null references organizations (id),
  id text not null unique,
  deleted boolean not null,
  email text,
  name text,
  currency text,
  balance_minor bigint not null,
  delinquent boolean not null,
  default_payment_method_id text,
  created_at timestamptz not null,
  data jsonb not null,
  refreshed_at timestamptz not null,
  primary key (organization_id, id)
);

create table stripe_subscriptions (
  organization_id text not null references organizations (id),
  id text not null unique,
  customer_id text not null,
  status text not null,
  currency text not null,
  collection_method text not null,
  cancel_at timestamptz,
  cancel_at_period_end boolean not null,
  canceled_at timestamptz,
  ended_at timestamptz,
  trial_start timestamptz,
  trial_end timestamptz,
  pause_behavior text,
  default_payment_method_id text,
  latest_invoice_id text,
  schedule_id text,
  -- What the schedule's next phase sells, and from when.
  scheduled_price_id text,
  scheduled_at timestamptz,
  created_at timestamptz not null,
  data jsonb not null,
  refreshed_at timestamptz not null,
  primary key (organization_id, id)
);
create index stripe_subscriptions_by_status on stripe_subscriptions (status, created_at desc, id);

create table stripe_subscription_items (
  organization_id text not null,
  subscription_id text not null,
  id text not null,
  price_id text not null,
  product_id text not null,
  quantity bigint,
  unit_amount_minor bigint,
  currency text not null,
  billing_interval text not null,
  interval_count integer not null,
  usage_type text not null,
  current_period_start timestamptz not null,
  current_period_end timestamptz not null,
  primary key (organization_id, id),
  foreign key (organization_id, subscription_id) references stripe_subscriptions (organization_id, id) on delete cascade
);
create index stripe_subscription_items_of_subscription on stripe_subscription_items (organization_id, subscription_id);
create index stripe_subscription_items_by_price on stripe_subscription_items (price_id);

create table stripe_invoices (
  organization_id text not null references organizations (id),
  id text not null unique,
  customer_id text not null,
  subscription_id text,
  number text,
  status text not null,
  billing_reason text,
  collection_method text not null,
  currency text not null,
  subtotal_minor bigint not null,
  total_minor bigint not null,
  amount_due_minor bigint not null,
  amount_paid_minor bigint not null,
  amount_remaining_minor bigint not null,
  attempted boolean not null,
  attempt_count integer not null,
  next_payment_attempt_at timestamptz,
  period_start timestamptz not null,
  period_end timestamptz not null,
  due_at timestamptz,
  finalized_at timestamptz,
  paid_at timestamptz,
  hosted_invoice_url text,
  invoice_pdf text,
  created_at timestamptz not null,
  data jsonb not null,
  refreshed_at timestamptz not null,
  primary key (organization_id, id)
);
create index stripe_invoices_newest on stripe_invoices (organization_id, created_at desc, id desc);
create index stripe_invoices_all_newest on stripe_invoices (created_at desc, id desc);
create index stripe_invoices_unsettled on stripe_invoices (organization_id) where status in ('draft', 'open');

create table stripe_payment_methods (
  organization_id text not null references organizations (id),
  id text not null unique,
  customer_id text not null,
  type text not null,
  card_brand text,
  card_last4 text,
  card_exp_month integer,
  card_exp_year integer,
  created_at timestamptz not null,
  data jsonb not null,
  refreshed_at timestamptz not null,
  primary key (organization_id, id)
);

create table stripe_charges (
  organization_id text not null references organizations (id),
  id text not null unique,
  customer_id text not null,
  payment_intent_id text,
  amount_minor bigint not null,
  amount_refunded_minor bigint not null,
  currency text not null,
  status text not null,
  paid boolean not null,
  refunded boolean not null,
  disputed boolean not null,
  description text,
  failure_code text,
  created_at timestamptz not null,
  data jsonb not null,
  refreshed_at timestamptz not null,
  primary key (organization_id, id)
);
create index stripe_charges_newest on stripe_charges (organization_id, created_at desc, id desc);
create index stripe_charges_all_newest on stripe_charges (created_at desc, id desc);

-- How old each organization's mirror is.
create table stripe_syncs (
  organization_id text primary key references organizations (id),
  synced_at timestamptz,
  -- When everything, not only what an event named, was last compared.
  reconciled_at timestamptz
);
create index stripe_syncs_oldest on stripe_syncs (reconciled_at nulls first);

-- What happened to an organization's billing, each once: the key says what and of which object.
create table billing_events (
  organization_id text not null references organizations (id),
  key text not null,
  kind text not null,
  data jsonb not null,
  occurred_at timestamptz not null,
  recorded_at timestamptz not null,
  primary key (organization_id, key)
);
create index billing_events_newest on billing_events (organization_id, occurred_at desc);
create index billing_events_by_kind on billing_events (kind, recorded_at desc);

-- Where reconciliation found mirror and Stripe apart, and repaired it.
create table stripe_drifts (
  id bigint generated always as identity primary key,
  organization_id text not null references organizations (id),
  object_type text not null,
  object_id text not null,
  field text not null,
  mirrored jsonb,
  actual jsonb,
  found_at timestamptz not null
);
create index stripe_drifts_newest on stripe_drifts (found_at desc, id desc);
