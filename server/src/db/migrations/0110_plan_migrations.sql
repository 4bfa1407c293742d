-- Customers are moved to newer terms of their plan only by a migration that an operator started after its preview.
create table plan_migrations (
  id text primary key,
  to_version integer not null references catalog_versions (version),
  at text not null check (at in ('now', 'period_end')),
  reason text,
  actor text not null,
  created_at timestamptz not null
);

-- One organization's part of it. The row is the job: it is due while it is pending, or scheduled and its time has come.
create table plan_migration_moves (
  organization_id text not null references organizations (id),
  migration_id text not null references plan_migrations (id),
  plan_key text not null,
  from_version integer not null references catalog_versions (version),
  price_key text,
  quantity integer not null,
  currency text not null,
  from_price_id text,
  from_amount_minor bigint not null,
  to_price_id text,
  to_amount_minor bigint not null,
  state text not null check (state in ('pending', 'scheduled', 'done', 'skipped', 'failed')),
  effective_at timestamptz,
  detail text,
  attempts integer not null default 0,
  updated_at timestamptz not null,
  primary key (organization_id, migration_id)
);
-- An organization is moved by one migration at a time.
create unique index plan_migration_moves_open on plan_migration_moves (organization_id) where state in ('pending', 'scheduled');
create index plan_migration_moves_of_migration on plan_migration_moves (migration_id, organization_id);
