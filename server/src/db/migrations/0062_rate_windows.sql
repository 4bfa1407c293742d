-- What was accepted lately of meters that are limited per second, minute, hour or day: [[end of a slice in ms, quantity], …].
create table rate_windows (
  organization_id text not null,
  meter text not null,
  slots jsonb not null,
  primary key (organization_id, meter)
)
with (fillfactor = 60);

-- What open reservations will make of overage when they are settled as held: a limit of spending counts it.
alter table grants add column held_overage bigint not null default 0 check (held_overage >= 0);
