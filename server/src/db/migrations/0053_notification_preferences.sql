-- Who wants which mails about billing. What is not here is as it is by default: the billing address gets all, members none.
create table notification_preferences (
  organization_id text not null references organizations (id),
  -- 'billing' is the organization's billing address; else a member's user id.
  recipient text not null,
  kind text not null,
  wanted boolean not null,
  primary key (organization_id, recipient, kind)
);
