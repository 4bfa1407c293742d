-- MR-6: why an operator overrode something, and until when. An override that has ended counts no more, whoever reads it: no job takes it back.
alter table accounts
  add column override_ends_at timestamptz,
  add column override_reason text,
  add column override_set_by text,
  add column override_set_at timestamptz;

-- The few that end, for lists by plan.
create index accounts_override_ends on accounts (override_ends_at) where override_ends_at is not null;

-- What was set before this has its reason in the audit log.
update accounts account set override_reason = told.reason, override_set_by = told.actor, override_set_at = told.at
from (
  select distinct on (organization_id) organization_id, after ->> 'reason' as reason, actor, at from audit_log
  where action = 'standing.overridden' order by organization_id, id desc
) told
where told.organization_id = account.organization_id
  and (coalesce(override_plan_key, override_status) is not null or coalesce(override_trial_ends_at, override_expires_at) is not null);
