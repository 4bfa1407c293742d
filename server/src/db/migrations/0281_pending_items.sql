-- Changes whose invoice takes along what waits for the next one: where it is voided, that is made again. Looked for each minute, so by an index of
-- its own, which is empty but for the few that wait for the bank with something to take along. Making it reads the intents once, and blocks their writes meanwhile.
create index stripe_intents_taking_along on stripe_intents (organization_id) where params ? 'pendingItemIds';
