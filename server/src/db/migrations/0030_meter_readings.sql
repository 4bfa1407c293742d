-- What meters that do not simply add up have come to in a period (the grant is the plan's allowance that carries it).
create table meter_readings (
  organization_id text not null,
  grant_id text not null,
  meter text not null,
  -- Of `max` the largest, of `latest` the last quantity, and when that was.
  quantity bigint not null,
  occurred_at timestamptz not null,
  -- What it is drawn from, so that a falling gauge gives back where it took: [[grant, amount, overage], …]
  draws jsonb not null,
  primary key (organization_id, grant_id, meter)
)
with (fillfactor = 60);

-- The values of `unique` meters that were seen in a period.
create table meter_values (
  organization_id text not null,
  grant_id text not null,
  meter text not null,
  value text not null,
  primary key (organization_id, grant_id, meter, value)
);

-- What is left of events that were corrected: how much they count now, and what of their draws was not given back.
create table corrected_events (
  organization_id text not null,
  idempotency_key text not null,
  counted bigint not null check (counted >= 0),
  draws jsonb not null,
  primary key (organization_id, idempotency_key)
);
