-- People and how they sign in. better-auth reads and writes these tables; its schema check is run against them in a test.
create table users (
  id text primary key,
  name text not null,
  email text not null unique,
  email_verified boolean not null,
  image text,
  two_factor_enabled boolean,
  -- An operator sees every organization. Set by another operator only; better-auth does not know of it.
  operator boolean not null default false,
  created_at timestamptz not null default current_timestamp,
  updated_at timestamptz not null default current_timestamp
);

create table user_sessions (
  id text primary key,
  -- Worth nothing without the signature that goes with it in the cookie.
  token text not null unique,
  user_id text not null references users (id) on delete cascade,
  -- The organization in which the session acts when a request names none; null is the oldest membership.
  active_organization_id text references organizations (id),
  expires_at timestamptz not null,
  ip_address text,
  user_agent text,
  created_at timestamptz not null default current_timestamp,
  updated_at timestamptz not null
);
create index user_sessions_user_id_idx on user_sessions (user_id);
create index user_sessions_active_organization_idx on user_sessions (active_organization_id);

-- A password (hashed), or the account at a place elsewhere (its tokens encrypted).
create table user_credentials (
  id text primary key,
  account_id text not null,
  provider_id text not null,
  user_id text not null references users (id) on delete cascade,
  access_token text,
  refresh_token text,
  id_token text,
  access_token_expires_at timestamptz,
  refresh_token_expires_at timestamptz,
  scope text,
  password text,
  created_at timestamptz not null default current_timestamp,
  updated_at timestamptz not null
);
create index user_credentials_user_id_idx on user_credentials (user_id);

-- Password resets, states of a sign-in elsewhere, second factors that are due; identifiers are hashed.
create table user_verifications (
  id text primary key,
  identifier text not null,
  value text not null,
  expires_at timestamptz not null,
  created_at timestamptz not null default current_timestamp,
  updated_at timestamptz not null default current_timestamp
);
create index user_verifications_identifier_idx on user_verifications (identifier);

-- Secrets of authenticator apps and backup codes, both encrypted.
create table user_second_factors (
  id text primary key,
  secret text not null,
  backup_codes text not null,
  user_id text not null references users (id) on delete cascade,
  verified boolean,
  failed_verification_count integer,
  locked_until timestamptz
);
create index user_second_factors_secret_idx on user_second_factors (secret);
create index user_second_factors_user_id_idx on user_second_factors (user_id);

create table auth_rate_limits (
  id text primary key,
  key text not null unique,
  count integer not null,
  last_request bigint not null
);
