-- The comparison of the whole account with Stripe: which list is read, and up to where. One is under way at most; those that are over
-- are its history. A crash costs the page that was being compared.
create table stripe_reconciliations (
  id bigint generated always as identity primary key,
  started_at timestamptz not null,
  -- Invoices, charges and refunds made before this are known from earlier ones, except invoices that are not settled; null is all.
  recent_since timestamptz,
  list text not null,
  -- The last object of the page before; its time too, since it may be deleted meanwhile.
  after_id text,
  after_created_at timestamptz,
  pages bigint not null default 0,
  objects bigint not null default 0,
  -- Organizations that had to be refetched.
  suspected bigint not null default 0,
  updated_at timestamptz not null,
  finished_at timestamptz
);
create unique index stripe_reconciliations_running on stripe_reconciliations ((true)) where finished_at is null;

-- When an organization that was seen to differ is refetched.
alter table stripe_syncs add column suspected_at timestamptz;
create index stripe_syncs_suspected on stripe_syncs (suspected_at) where suspected_at is not null;
