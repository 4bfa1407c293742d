-- Outgoing webhooks. An endpoint of '*' is an operator's, and is told of every organization.
create table webhook_endpoints (
  organization_id text not null,
  id text not null unique,
  url text not null,
  description text not null,
  -- Names of types, 'invoice.*', or '*'.
  event_types text[] not null,
  -- Sealed. The previous one signs too until its time is over.
  secret bytea not null,
  previous_secret bytea,
  previous_secret_until timestamptz,
  -- When the first of the failures since the last success was.
  failing_since timestamptz,
  disabled_at timestamptz,
  disabled_reason text check (disabled_reason in ('failing', 'gone', 'by_hand')),
  created_at timestamptz not null,
  primary key (organization_id, id),
  check ((disabled_at is null) = (disabled_reason is null)),
  check ((previous_secret is null) = (previous_secret_until is null))
);

-- One event for one endpoint. The row is the job: it is due while pending and next_attempt_at has come.
create table webhook_deliveries (
  -- The event's; the endpoint may be an operator's.
  organization_id text not null,
  endpoint_id text not null references webhook_endpoints (id) on delete cascade,
  event_id text not null,
  state text not null check (state in ('pending', 'delivered', 'failed')),
  -- Begun attempts; also the fence: only the attempt of this number may say what came of it.
  attempts integer not null default 0,
  -- Attempts before the present round: a replay begins a new one, with delays and patience of its own.
  attempts_before integer not null default 0,
  created_at timestamptz not null,
  -- Also the end of the lease of who delivers it now.
  next_attempt_at timestamptz not null,
  give_up_at timestamptz not null,
  finished_at timestamptz,
  primary key (organization_id, endpoint_id, event_id)
);
create index webhook_deliveries_due on webhook_deliveries (endpoint_id, next_attempt_at) where state = 'pending';
create index webhook_deliveries_newest on webhook_deliveries (endpoint_id, created_at desc, event_id desc);

create table webhook_attempts (
  organization_id text not null,
  endpoint_id text not null,
  event_id text not null,
  number integer not null,
  attempted_at timestamptz not null,
  duration_ms integer not null,
  -- null when nothing was answered; error then says why.
  status integer,
  error text,
  -- The first kilobyte of the answer.
  response text,
  primary key (organization_id, endpoint_id, event_id, number),
  foreign key (organization_id, endpoint_id, event_id)
    references webhook_deliveries (organization_id, endpoint_id, event_id) on delete cascade
);
create index events_handed_out on events (handed_out_at) where handed_out_at is not null;
create index webhook_deliveries_by_age on webhook_deliveries (created_at);
