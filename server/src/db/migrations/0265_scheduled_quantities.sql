-- How many a scheduled change makes it; null where the mirror is of before it was kept, until the next refetch.
alter table stripe_subscriptions add column scheduled_quantity bigint;
