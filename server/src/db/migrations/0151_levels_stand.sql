-- The level that a `max` or `latest` meter was told last, and when: it stands until another is told. Of `latest` that is its quantity.
-- `carry_at` is when the period of a reading ends, as long as its level was not carried into the one that follows.
alter table meter_readings add column level bigint, add column level_at timestamptz, add column level_properties jsonb,
  add column carry_at timestamptz;
-- Of a `max` that was told before, only the largest is known: the level of the running period stands as that.
update meter_readings set level = quantity, level_at = occurred_at;
update meter_readings r set carry_at = nullif(g.expires_at, 'infinity')
from grants g, organizations o
where g.organization_id = r.organization_id and g.id = r.grant_id and o.id = r.organization_id and r.quantity > 0
  and g.expires_at > coalesce(o.test_clock_now, now());
alter table meter_readings alter column level set not null, alter column level_at set not null;
create index meter_readings_to_carry on meter_readings (carry_at) where carry_at is not null;
