-- Whether the use belongs to a period that was over when it was told.
alter table usage_events add column late boolean not null default false;
