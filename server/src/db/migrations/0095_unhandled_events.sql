-- How many events wait or were given up is asked whenever metrics are read.
create index stripe_events_unhandled on stripe_events (next_attempt_at) where handled_at is null;
