-- By the database's clock, which all servers share: when an intent came to its end, and when Stripe was asked for what the mirror holds. Which was first decides
-- whether the mirror has followed; the servers' own clocks differ. Null is of before.
alter table stripe_intents add column database_finished_at timestamptz;
alter table stripe_syncs add column database_asked_at timestamptz;
