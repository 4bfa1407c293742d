-- A change is heard of when the request that asked for it, or a later one, came to its end: until then a repeat is answered, not refused.
alter table stripe_intents add column heard_at timestamptz;
update stripe_intents set heard_at = finished_at where state = 'succeeded' and audit is not null;
create index stripe_intents_unheard on stripe_intents (organization_id)
  where state = 'succeeded' and audit is not null and heard_at is null;

-- Requests that change a subscription under a key of the caller's (Idempotency-Key): what was asked, and what was answered.
create table billing_requests (
  organization_id text not null references organizations (id),
  key text not null,
  operation text not null,
  body jsonb not null,
  -- null until it is done; a refusal is not kept.
  answer jsonb,
  created_at timestamptz not null,
  primary key (organization_id, key)
);
create index billing_requests_by_time on billing_requests (created_at);
