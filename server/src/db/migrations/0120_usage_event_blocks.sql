-- Events of one organization that were committed together and agree in all but a few columns share a row: a block
-- (docs/decisions/0120-events-in-blocks.md). What varies within a block is in arrays of one element per event, in the order of the events;
-- an array is null when its column holds for all of them. A block of one event has no arrays and is what a row was before.
alter table usage_events rename to usage_event_blocks;
alter table usage_event_blocks
  add column ids uuid[],
  add column idempotency_keys text[],
  add column quantities bigint[],
  add column occurred_ats timestamptz[],
  add column properties_each jsonb[],
  add column counteds bigint[],
  add column drawns bigint[],
  add column overages bigint[],
  add column draws_each jsonb[],
  add column after_useds bigint[],
  add column after_overages bigint[];
-- Compressing them would cost more than the rest of the write, and most do not get smaller.
alter table usage_event_blocks
  alter column ids set storage external,
  alter column idempotency_keys set storage external,
  alter column quantities set storage external,
  alter column occurred_ats set storage external,
  alter column properties_each set storage external,
  alter column counteds set storage external,
  alter column drawns set storage external,
  alter column overages set storage external,
  alter column draws_each set storage external,
  alter column after_useds set storage external,
  alter column after_overages set storage external;

-- The events one by one. Conditions on what a block's events have in common reach the table and its index; rows come in the order of the
-- index, so that `order by recorded_at, id limit …` reads no more than it answers. A block of one costs no unnesting.
-- Whoever reads does so by their own rights: the policies of the table hold.
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

-- An event is found by its key among those of its time; the id was the key's second name.
alter table usage_keys drop column event_id;
-- The key first, compared byte by byte: nearly every comparison then ends with it, and keys that ascend, of whatever organizations, go to
-- the same few pages. Over 10,000 organizations looking up and inserting a key cost 9 µs and 6 µs, now 4 and 3.
alter table usage_keys drop constraint usage_keys_pkey, alter column idempotency_key type text collate "C",
  add primary key (idempotency_key, organization_id);
