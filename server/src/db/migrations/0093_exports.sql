-- Files that take a while to make. The row is the job: it is due while queued, or when the lease of who makes it has run out.
create table exports (
  -- '*' for those of operators, over all organizations.
  organization_id text not null,
  id text not null unique,
  kind text not null,
  format text not null check (format in ('csv', 'pdf', 'zip')),
  starts_at timestamptz,
  ends_at timestamptz,
  filter jsonb not null,
  state text not null check (state in ('queued', 'running', 'done', 'failed')),
  -- Rows or documents: how many are in the file, and of how many. They begin anew with each attempt.
  made bigint not null default 0,
  planned bigint,
  attempt integer not null default 0,
  lease_until timestamptz,
  bytes bigint not null default 0,
  error text,
  requested_by text not null,
  created_at timestamptz not null,
  finished_at timestamptz,
  expires_at timestamptz not null,
  primary key (organization_id, id)
);
create index exports_due on exports (created_at) where state in ('queued', 'running');
create index exports_newest on exports (organization_id, created_at desc, id desc);
create index exports_by_expiry on exports (expires_at);

-- Servers hold no state, so the files are here, in pieces, until they expire.
create table export_chunks (
  organization_id text not null,
  export_id text not null,
  attempt integer not null,
  number integer not null,
  data bytea not null,
  primary key (organization_id, export_id, attempt, number),
  foreign key (organization_id, export_id) references exports (organization_id, id) on delete cascade
);
-- What is in a file is compressed already, or read once.
alter table export_chunks alter column data set storage external;
