-- Of a plan's allowance: what use of its period drew from other grants (top-ups, promotions, what moved on). With it a balance tells what
-- its period used, whatever earlier periods drew from a grant that goes on, and whatever has ended since. Like the other rare counters null is none.
alter table grants add column used_elsewhere bigint check (used_elsewhere >= 0);

-- Of the periods that run: what was drawn from grants that began within them. How much of an older grant was drawn within the period
-- is nowhere summed up; it is taken for drawn before.
update grants plan set used_elsewhere = nullif(other.used, 0)
from (
  select plan.organization_id, plan.id, sum(own.used)::bigint as used
  from grants plan join grants own on own.organization_id = plan.organization_id and own.balance = plan.balance
    and own.kind <> 'plan' and own.starts_at >= plan.starts_at and own.used > 0
  where plan.kind = 'plan' and plan.expires_at > now()
  group by plan.organization_id, plan.id
) as other
where other.organization_id = plan.organization_id and other.id = plan.id;
