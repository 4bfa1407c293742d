-- Refusals of an organization, for its timeline, without reading all of its use.
create index usage_events_refused on usage_events (organization_id, recorded_at) where refusal is not null;
