-- The few schedules that were released for a pause with something ahead: where the pause does not come, that is scheduled again. Looked for each minute,
-- so by an index of its own. Making it reads the intents once, and blocks their writes meanwhile.
create index stripe_intents_restoring on stripe_intents (organization_id) where params ? 'restores';
