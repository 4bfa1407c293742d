-- Intents that came to their end are forgotten after a while: found by when they did.
create index stripe_intents_finished on stripe_intents (finished_at) where finished_at is not null;
