-- Everything that may be used up. A plan's allowance of a period is the grant whose id names balance, kind of period and start.
-- granted (amount) − used − reserved − revoked − expired = remaining; what expired follows from expires_at.
create table grants (
  organization_id text not null references organizations (id),
  id text not null check (length(id) between 1 and 200),
  balance text not null,
  kind text not null check (kind in ('plan', 'top_up', 'promotion', 'rollover', 'manual')),
  plan_key text,
  catalog_version integer references catalog_versions (version),
  -- Quantities are millionths. A null amount is unlimited.
  amount bigint check (amount >= 0),
  limit_kind text not null check (limit_kind in ('hard', 'soft')),
  used bigint not null default 0 check (used >= 0),
  overage bigint not null default 0 check (overage >= 0),
  reserved bigint not null default 0 check (reserved >= 0),
  revoked bigint not null default 0 check (revoked >= 0),
  priority integer not null,
  -- The meters it may pay for; null is every meter of the balance.
  meters text[],
  starts_at timestamptz not null,
  -- 'infinity' never expires: the index below then finds every grant that still counts in one range.
  expires_at timestamptz not null default 'infinity',
  reason text,
  created_at timestamptz not null,
  primary key (organization_id, id),
  -- The last line of defence against overshoot: no statement, right or wrong, can spend a grant twice.
  constraint grants_never_overdrawn check (used + reserved + revoked <= amount)
)
-- Counters change all the time and no index holds them: room on the page keeps those updates in place (HOT).
with (fillfactor = 60);
create index grants_by_expiry on grants (organization_id, expires_at);

-- What was asked and what came of it, refusals included: enough to answer a repeat exactly as the first time, and to explain.
create table usage_events (
  organization_id text not null,
  recorded_at timestamptz not null,
  id uuid not null,
  verb text not null,
  idempotency_key text not null,
  meter text not null,
  quantity bigint not null,
  occurred_at timestamptz not null,
  -- Whether the caller named occurred_at.
  dated boolean not null,
  properties jsonb,
  -- What it adds to the meter's quantity; what it took from the balance, overage included; a refusal adds and takes nothing.
  counted bigint not null,
  drawn bigint not null,
  overage bigint not null,
  -- [[grant, amount, overage], …]; null when all of it came from the plan's allowance of the period.
  draws jsonb,
  refusal text,
  reservation_id text,
  held_until timestamptz,
  -- Of a correction: the key of the event that it corrects.
  corrects text,
  -- The balance after, and the plan's allowance that carried it (balance, period and period_start are its name).
  balance text not null,
  plan_key text not null,
  period text not null,
  period_start timestamptz not null,
  period_end timestamptz,
  after_amount bigint,
  after_used bigint not null,
  after_overage bigint not null,
  after_reserved bigint not null,
  -- Serves the repeat's look-up and reading an organization's events in order; partitions by month expire by being dropped.
  primary key (organization_id, recorded_at, id)
) partition by range (recorded_at);
-- Catches what no monthly partition takes, so that a wrong clock can never stop the counting.
create table usage_events_other partition of usage_events default;

-- One row per key, kept at least 35 days, unique across months; points at the event that holds the answer.
create table usage_keys (
  organization_id text not null,
  idempotency_key text not null,
  recorded_at timestamptz not null,
  event_id uuid not null,
  primary key (organization_id, idempotency_key)
);
-- Finds what may be pruned by ranges of pages: rows are appended in the order of recorded_at.
create index usage_keys_by_age on usage_keys using brin (recorded_at);

create table usage_hourly (
  organization_id text not null,
  meter text not null,
  hour timestamptz not null,
  events bigint not null,
  quantity bigint not null,
  drawn bigint not null,
  overage bigint not null,
  primary key (organization_id, meter, hour)
)
with (fillfactor = 60);

create table reservations (
  organization_id text not null,
  id text not null,
  meter text not null,
  quantity bigint not null,
  balance text not null,
  -- [[grant, amount, 0], …]
  holds jsonb not null,
  status text not null check (status in ('open', 'settled', 'released', 'expired')),
  properties jsonb,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  closed_at timestamptz,
  settled_event_id uuid,
  settled_recorded_at timestamptz,
  primary key (organization_id, id)
);
create index reservations_open on reservations (organization_id, expires_at) where status = 'open';
