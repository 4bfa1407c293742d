-- Finds the events of a time over all organizations, for what forwards them. Ranges of pages: next to nothing per insert.
create index usage_events_by_time on usage_events using brin (recorded_at);

-- How far each sink has come. What lies before was delivered, or put aside.
create table sink_cursors (
  sink text primary key,
  recorded_at timestamptz not null,
  event_id uuid not null,
  failures integer not null default 0,
  last_error text,
  next_attempt_at timestamptz not null,
  delivered bigint not null default 0,
  updated_at timestamptz not null
);

-- Events that a sink will never take.
create table sink_rejections (
  organization_id text not null,
  sink text not null,
  event_id uuid not null,
  reason text not null,
  rejected_at timestamptz not null,
  primary key (organization_id, sink, event_id)
);
