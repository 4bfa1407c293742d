-- A credit that Stripe refused waits again when an operator says so: what came of calls before that is over.
alter table use_credits add column retried_at timestamptz;
create index use_credits_failed on use_credits (created_at) where state = 'failed';
