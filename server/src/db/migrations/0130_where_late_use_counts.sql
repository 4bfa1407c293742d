-- What an organization had from a moment on, until its next row: use that is told late belongs to the allowance of its own time.
-- Rows that lie further back than any use may be told are deleted as new ones come.
create table account_terms (
  organization_id text not null references organizations (id),
  since timestamptz not null,
  plan_key text not null,
  catalog_version integer not null references catalog_versions (version),
  -- The subscription's cycle; null without one.
  cycle_start timestamptz,
  cycle_end timestamptz,
  add_ons jsonb not null,
  primary key (organization_id, since)
);
-- Since when the newest of them stands: what happened later needs none of them. null is ever since.
alter table accounts add column terms_since timestamptz;

-- What was used in a time in which nothing billed the balance, of `used` and of `overage`: it is never billed. null is nothing, which it
-- nearly always is, and then it takes no room.
alter table grants
  add column free_used bigint check (free_used >= 0),
  add column free_overage bigint check (free_overage >= 0);

-- Use that was told when what bills its time was over: which invoice it comes on. null is not late. The view is as it was.
drop view usage_events;
alter table usage_event_blocks alter column late drop default, alter column late drop not null,
  alter column late type text using case when late then 'open' end;
alter table usage_event_blocks add constraint usage_events_late check (late in ('open', 'closed', 'ended', 'free'));
create view usage_events with (security_invoker = true) as
select b.organization_id, b.recorded_at, coalesce(e.id, b.id) as id, b.verb, coalesce(e.idempotency_key, b.idempotency_key) as idempotency_key,
  b.meter, coalesce(e.quantity, b.quantity) as quantity, coalesce(e.occurred_at, b.occurred_at) as occurred_at, b.dated,
  coalesce(e.properties, b.properties) as properties, coalesce(e.counted, b.counted) as counted, coalesce(e.drawn, b.drawn) as drawn,
  coalesce(e.overage, b.overage) as overage, coalesce(e.draws, b.draws) as draws, b.refusal, b.reservation_id, b.held_until, b.corrects,
  b.balance, b.plan_key, b.period, b.period_start, b.period_end, b.after_amount, coalesce(e.after_used, b.after_used) as after_used,
  coalesce(e.after_overage, b.after_overage) as after_overage, b.after_reserved, b.plan_grant, b.late
from usage_event_blocks b
left join lateral (
  select unnest(b.ids) as id, unnest(b.idempotency_keys) as idempotency_key, unnest(b.quantities) as quantity,
    unnest(b.occurred_ats) as occurred_at, unnest(b.properties_each) as properties, unnest(b.counteds) as counted,
    unnest(b.drawns) as drawn, unnest(b.overages) as overage, unnest(b.draws_each) as draws, unnest(b.after_useds) as after_used,
    unnest(b.after_overages) as after_overage
  where b.ids is not null
) e on true;
