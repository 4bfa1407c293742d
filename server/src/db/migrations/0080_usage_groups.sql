-- Use split by the properties that a meter names (groupBy). Which combinations of values there were in a month, each with a number:
-- at most a thousand per organization, meter and month, so that no property, however many values it has, grows without bound.
create table usage_groups (
  organization_id text not null,
  meter text not null,
  -- The first day of the month (UTC) of what is summed up.
  month date not null,
  -- sha256 of the labels: they may be longer than an index takes.
  digest bytea not null,
  number integer not null,
  -- {"model": "large", "endpoint": "/ask"}; a property that an event lacked is left out.
  labels jsonb not null,
  primary key (organization_id, meter, month, digest),
  unique (organization_id, meter, month, number)
);

-- Sums of those combinations by the hour and by the day of the organization's zone. What they leave of usage_hourly is use of
-- combinations beyond the thousand, and of the time before the meter named its properties.
create table usage_grouped (
  organization_id text not null,
  meter text not null,
  span text not null check (span in ('hour', 'day')),
  starts_at timestamptz not null,
  month date not null,
  group_number integer not null,
  events bigint not null,
  quantity bigint not null,
  drawn bigint not null,
  overage bigint not null,
  primary key (organization_id, meter, span, starts_at, month, group_number)
)
with (fillfactor = 60);
