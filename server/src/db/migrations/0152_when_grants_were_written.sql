-- When a grant was written down, by this server's clock: created_at is the organization's own time, which a test clock may have moved.
-- Of grants from before this, created_at is all there is.
alter table grants add column recorded_at timestamptz;
alter table grants alter column recorded_at set default now();
