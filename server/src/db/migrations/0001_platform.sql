-- Settings of the installation that no variable holds, such as the secret behind API key digests.
create table settings (
  name text primary key,
  value text not null
);

-- organization = tenant = customer = billing account: one thing with one id and one Stripe customer.
create table organizations (
  id text primary key check (length(id) between 1 and 100),
  name text not null,
  email text not null,
  stripe_customer_id text unique,
  -- Set when the organization lives on a Stripe test clock; test_clock_now is then its time in Tollgate's own logic too.
  stripe_test_clock_id text,
  test_clock_now timestamptz,
  created_at timestamptz not null
);

create table api_keys (
  organization_id text not null references organizations (id),
  id text not null unique,
  name text not null,
  scopes text[] not null check (scopes <@ array['read', 'write', 'admin']),
  -- HMAC-SHA256 of the key: finds the row and refuses wrong keys before bcrypt is asked.
  digest bytea not null unique,
  bcrypt_hash text not null,
  -- The first characters, so that people can tell keys apart.
  display_prefix text not null,
  created_at timestamptz not null,
  expires_at timestamptz,
  revoked_at timestamptz,
  primary key (organization_id, id)
);

create table audit_log (
  id bigint generated always as identity primary key,
  organization_id text,
  actor text not null,
  action text not null,
  target text not null,
  before jsonb,
  after jsonb,
  request_id text,
  at timestamptz not null
);
create index audit_log_by_organization on audit_log (organization_id, id desc);
