-- Subscriptions that stopped with their trial are looked for among the paused ones, which are few.
create index stripe_subscriptions_paused on stripe_subscriptions (organization_id) where status = 'paused';
