-- What webhooks brought, those that were stored together in one piece, packed (brotli): Stripe's events are much alike. Each by itself, in a column
-- that PostgreSQL compressed, they took most of the time of storing an event, and seven times the space.
create table stripe_event_payloads (
  id bigint generated always as identity primary key,
  stored_at timestamptz not null,
  packed bytea not null
);
alter table stripe_event_payloads alter column packed set storage external;
create index stripe_event_payloads_by_time on stripe_event_payloads (stored_at);

-- Where an event's payload is: bytes of the unpacked piece. Earlier events, and those that no webhook brought, keep theirs in `payload`.
alter table stripe_events
  alter column payload drop not null,
  add column payload_id bigint,
  add column payload_from integer,
  add column payload_bytes integer,
  add constraint stripe_events_payload_kept check ((payload is null) = (payload_id is not null));
