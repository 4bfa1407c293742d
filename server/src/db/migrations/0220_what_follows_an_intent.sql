-- Calls that have to be made once this one is done, whoever finds that it is: stored before it, and intents of their own with its end.
alter table stripe_intents add column afterwards jsonb;
