-- Who belongs to an organization. owner and admin may do everything in it, member reads and uses.
create table organization_members (
  organization_id text not null references organizations (id),
  user_id text not null references users (id) on delete cascade,
  role text not null check (role in ('owner', 'admin', 'member')),
  created_at timestamptz not null,
  primary key (organization_id, user_id)
);
create index organization_members_by_user on organization_members (user_id, created_at);

create table organization_invitations (
  organization_id text not null references organizations (id),
  id text not null unique,
  email text not null,
  role text not null check (role in ('owner', 'admin', 'member')),
  -- HMAC-SHA256 of the token in the mail.
  digest bytea not null unique,
  invited_by text not null,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  accepted_at timestamptz,
  accepted_by text references users (id) on delete set null,
  revoked_at timestamptz,
  primary key (organization_id, id)
);
-- An address has one open invitation of an organization: inviting again replaces it.
create unique index organization_invitations_open on organization_invitations (organization_id, email)
  where accepted_at is null and revoked_at is null;

create table workspaces (
  organization_id text not null references organizations (id),
  id text not null unique,
  name text not null,
  created_at timestamptz not null,
  archived_at timestamptz,
  primary key (organization_id, id)
);
create unique index workspaces_by_name on workspaces (organization_id, lower(name)) where archived_at is null;
create index workspaces_newest on workspaces (created_at, id);

-- Short-lived tokens with which a customer's browser opens the billing pages that an application embeds.
create table customer_tokens (
  organization_id text not null references organizations (id),
  id text not null unique,
  -- HMAC-SHA256 of the token.
  digest bytea not null unique,
  created_by text not null,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  revoked_at timestamptz,
  primary key (organization_id, id)
);
create index customer_tokens_by_expiry on customer_tokens (expires_at);
