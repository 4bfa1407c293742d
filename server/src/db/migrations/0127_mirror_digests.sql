-- What a mirrored row was made of, so that a refetch writes only rows that differ; null is written with the next refetch.
alter table stripe_customers add column digest text;
alter table stripe_subscriptions add column digest text;
alter table stripe_invoices add column digest text;
alter table stripe_payment_methods add column digest text;
alter table stripe_charges add column digest text;

-- Payloads and whole objects are kilobytes of JSON, written often and hardly ever read: compressed the cheaper way where there is one.
do $$
begin
  alter table stripe_events alter column payload set compression lz4;
  alter table stripe_customers alter column data set compression lz4;
  alter table stripe_subscriptions alter column data set compression lz4;
  alter table stripe_invoices alter column data set compression lz4;
  alter table stripe_payment_methods alter column data set compression lz4;
  alter table stripe_charges alter column data set compression lz4;
exception
  -- A PostgreSQL that was built without it.
  when feature_not_supported then null;
end
$$;

-- An event learns whose it is when it is handled: before, it has no place in this index.
drop index stripe_events_by_organization;
create index stripe_events_by_organization on stripe_events (organization_id, received_at desc) where organization_id is not null;
