-- Where an organization stood when it was last looked at, and when to look again: the row is the job.
create table standing_watches (
  organization_id text primary key references organizations (id),
  state text not null,
  may_use boolean not null,
  plan_key text not null,
  -- How often that changed: names each change.
  changes integer not null,
  -- Since when the failure runs about which the customer is being reminded; null when nothing is owed.
  dunning_since timestamptz,
  -- When time alone changes something next; null when it does not, or when a test clock's moves bring the look with them.
  look_at timestamptz
);
create index standing_watches_due on standing_watches (look_at) where look_at is not null;
