-- A secret that is rotated again during its overlap leaves each previous one its time: a rotation whose answer was lost is asked for
-- again while the receiver still verifies with the first.
alter table webhook_endpoints
  add column previous_secrets bytea[] not null default '{}',
  add column previous_secret_ends timestamptz[] not null default '{}';

update webhook_endpoints set previous_secrets = array[previous_secret], previous_secret_ends = array[previous_secret_until]
where previous_secret is not null;

alter table webhook_endpoints
  drop column previous_secret,
  drop column previous_secret_until,
  add constraint webhook_endpoints_previous_secrets_end check (cardinality(previous_secrets) = cardinality(previous_secret_ends));
