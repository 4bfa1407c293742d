-- What was taken back of a line whose invoice is closed: it comes back as a credit of the customer's balance at Stripe
-- (docs/decisions/0190-closed-use-that-is-taken-back.md). One row for each grant and line of a time at which reports were made.
create table use_credits (
  organization_id text not null references organizations (id),
  id text not null,
  span_id text not null,
  grant_id text not null,
  -- Of the line: what had been late on it.
  late boolean not null,
  quantity bigint not null check (quantity > 0),
  -- What the line cost for it, before tax and discounts.
  amount_minor bigint not null check (amount_minor >= 0),
  state text not null check (state in ('waiting', 'given', 'failed')),
  -- What came back, with its share of tax and discounts; nothing before that.
  given_minor bigint,
  transaction_id text,
  created_at timestamptz not null,
  given_at timestamptz,
  primary key (organization_id, id)
);
create index use_credits_of_span on use_credits (organization_id, span_id);
create index use_credits_of_grant on use_credits (organization_id, grant_id);
create index use_credits_waiting on use_credits (organization_id) where state = 'waiting';

-- Which corrections nobody has looked at since: whether they take something back that is billed.
alter table corrected_events add column looked_at boolean not null default true;
alter table corrected_events alter column looked_at set default false;
create index corrected_events_to_look_at on corrected_events (organization_id) where not looked_at;

-- Not looked for among the events that are there: none of them can be one.
alter table usage_event_blocks drop constraint usage_events_late,
  add constraint usage_events_late check (late in ('open', 'closed', 'credited', 'ended', 'free')) not valid;
