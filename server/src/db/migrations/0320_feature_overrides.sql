-- What operators set of an organization's features by hand, for good or until a time; plan and add-ons give the rest.
create table feature_overrides (
  organization_id text not null references organizations (id),
  feature_key text not null,
  -- true, a number or decimal, 'unlimited', one of a choice; false is nothing.
  value jsonb not null,
  ends_at timestamptz,
  reason text not null,
  set_by text not null,
  set_at timestamptz not null,
  primary key (organization_id, feature_key)
);

-- What an organization had of features when it was last looked at; null before the first look.
alter table standing_watches add column entitlements jsonb;
