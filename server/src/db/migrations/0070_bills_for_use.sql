-- Which Stripe price bills the use of a balance. Like plan_prices: one that is superseded goes on for those who have it.
create table usage_prices (
  stripe_price_id text primary key,
  -- null is every plan: the price that STRIPE_METERED_PRICE_ID names.
  plan_key text,
  balance text not null,
  -- 'overage': what was counted beyond the plan's allowance; 'use': all that was drawn (EM-3).
  reports text not null check (reports in ('overage', 'use')),
  event_name text not null,
  -- 'sum': Stripe adds up what is reported; 'last': the newest report of a period is its quantity.
  formula text not null check (formula in ('sum', 'last')),
  currency text not null,
  terms jsonb not null,
  catalog_version integer not null references catalog_versions (version),
  created_at timestamptz not null,
  superseded_at timestamptz
);
create unique index usage_prices_offered on usage_prices (coalesce(plan_key, ''), balance) where superseded_at is null;

-- The time in which one item of a subscription bills at one price: a period of Stripe's, or what of it lies between changes.
create table billing_spans (
  organization_id text not null references organizations (id),
  id text not null,
  kind text not null check (kind in ('base', 'usage')),
  subscription_id text not null,
  item_id text not null,
  stripe_price_id text not null,
  starts_at timestamptz not null,
  ends_at timestamptz not null,
  -- Whether it begins with a period of Stripe's: a base fee is then charged whole.
  whole boolean not null,
  -- base: how many (seats). usage: what has been reported so far, in millionths.
  quantity bigint not null,
  balance text,
  -- 'open' runs; 'closing' is over, and its invoice a draft; 'closed' takes no more reports.
  state text not null check (state in ('open', 'closing', 'closed')),
  -- How many reports were made, and until when: their identifiers and times follow from these.
  reports integer not null default 0,
  last_report_at timestamptz,
  collected_at timestamptz not null,
  invoice_id text,
  primary key (organization_id, id)
);
create index billing_spans_unfinished on billing_spans (organization_id) where state <> 'closed';
create index billing_spans_due on billing_spans (collected_at) where state <> 'closed' and kind = 'usage';
create index billing_spans_newest on billing_spans (organization_id, starts_at desc);

-- How much of a grant's count has been taken into reports, or was free when it was counted.
create table reported_grants (
  organization_id text not null,
  grant_id text not null,
  reports text not null check (reports in ('overage', 'use')),
  counted bigint not null,
  primary key (organization_id, grant_id, reports)
);

-- The outbox of meter events. Stored with identifier, value and time before it is sent.
create table meter_events (
  organization_id text not null references organizations (id),
  identifier text not null check (length(identifier) between 1 and 100),
  span_id text not null,
  event_name text not null,
  formula text not null,
  customer_id text not null,
  -- What was counted since the report before.
  quantity bigint not null,
  -- What Stripe is told: of a sum the quantity, of a level the span's total.
  value bigint not null,
  -- Its time at Stripe, in whole seconds, within the span.
  at timestamptz not null,
  -- Counted in a period whose invoice was closed.
  late boolean not null,
  state text not null check (state in ('pending', 'sent', 'failed')),
  attempts integer not null default 0,
  -- By the organization's time, as is Stripe's memory of identifiers.
  first_attempt_at timestamptz,
  created_at timestamptz not null,
  sent_at timestamptz,
  error text,
  primary key (organization_id, identifier)
);
create index meter_events_pending on meter_events (created_at) where state = 'pending';
create index meter_events_of_span on meter_events (organization_id, span_id, at);

-- Which invoice settles the use of which time (KF-11): written when the invoice is finalized, marked when it is paid.
create table settled_usage (
  organization_id text not null references organizations (id),
  invoice_id text not null,
  starts_at timestamptz not null,
  ends_at timestamptz not null,
  -- Use that was recorded later, by the server's clock, belongs to the next invoice.
  recorded_until timestamptz not null,
  paid_at timestamptz,
  primary key (organization_id, invoice_id)
);
create index settled_usage_by_time on settled_usage (organization_id, ends_at);
