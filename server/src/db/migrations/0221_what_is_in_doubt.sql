-- What a caller asked for is not carried out by somebody else's request (docs/decisions/0220-what-was-told-to-have-failed.md).
alter table stripe_intents
  -- It follows on another that is done, and has to be done whoever comes.
  add column is_duty boolean not null default false,
  -- Until when a call that got no answer may still come true at Stripe; null of those from before.
  add column in_doubt_until timestamptz;
