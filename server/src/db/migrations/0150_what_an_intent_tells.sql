-- What the audit log says when an intent is done: written by whoever finishes it after its request has gone.
alter table stripe_intents add column audit jsonb;
