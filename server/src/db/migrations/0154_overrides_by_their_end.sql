-- The list of overrides asks when each ends: with the end in the index, the index alone answers.
drop index accounts_overridden;
create index accounts_overridden on accounts (organization_id) include (override_ends_at)
  where coalesce(override_plan_key, override_status) is not null or coalesce(override_trial_ends_at, override_expires_at) is not null;
