-- What was bought of the catalog's packages; the terms are those of the day on which it was bought.
create table top_up_purchases (
  organization_id text not null references organizations (id),
  id text not null,
  -- Makes a purchase one purchase, however often it is asked for.
  idempotency_key text not null,
  top_up text not null,
  name text not null,
  balance text not null,
  quantity integer not null check (quantity > 0),
  -- What all of it grants, in millionths, and what all of it costs.
  amount bigint not null check (amount > 0),
  price_minor bigint not null check (price_minor >= 0),
  currency text not null,
  expires_after_days integer,
  -- Bought because a balance fell under its mark.
  automatic boolean not null,
  status text not null check (status in ('pending', 'paid', 'failed')),
  failure_code text,
  -- Where it is paid, when it is not paid with a saved method.
  page_url text,
  charge_id text,
  refunded_minor bigint not null default 0,
  disputed boolean not null default false,
  -- How much of the grant was taken back for that; what had been used already could not be.
  taken_back bigint not null default 0,
  created_at timestamptz not null,
  paid_at timestamptz,
  primary key (organization_id, id),
  unique (organization_id, idempotency_key)
);
create index top_up_purchases_newest on top_up_purchases (organization_id, created_at desc);

-- Which package is bought by itself when a balance falls under a mark.
create table auto_top_ups (
  organization_id text not null references organizations (id),
  balance text not null,
  top_up text not null,
  quantity integer not null check (quantity > 0),
  below bigint not null check (below > 0),
  most_per_month integer not null check (most_per_month > 0),
  -- After a payment that failed, until another method is there or somebody sets it anew.
  stopped_at timestamptz,
  stopped_code text,
  stopped_method text,
  updated_at timestamptz not null,
  primary key (organization_id, balance)
);

-- The outbox of uses that brought a balance under its mark.
create table auto_top_up_requests (
  organization_id text not null references organizations (id),
  balance text not null,
  requested_at timestamptz not null,
  looked_at timestamptz,
  primary key (organization_id, balance)
);

-- By balance, the mark in millionths: read with the account wherever use is decided.
alter table accounts add column low_marks jsonb;
