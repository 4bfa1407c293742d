-- What the last comparison of grants, hourly sums and reservations found; one row for the whole installation.
create table balance_checks (
  only_row boolean primary key default true check (only_row),
  checked_at timestamptz not null,
  imbalances integer not null check (imbalances >= 0)
);
