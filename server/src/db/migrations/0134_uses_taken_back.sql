-- Whether a use was taken back whole: what a meter has come to is then as though it had never been told.
alter table corrected_events add column retracted boolean not null default false;
