-- What a refused use's limit of spending was and what of it was spent, so that a repeat of its key tells the same; kept as long as the key.
create table spend_refusals (
  organization_id text not null references organizations (id),
  event_id uuid not null,
  recorded_at timestamptz not null,
  currency text not null,
  limit_minor bigint not null,
  spent_minor bigint not null,
  primary key (organization_id, event_id)
);
create index spend_refusals_by_time on spend_refusals (recorded_at);
