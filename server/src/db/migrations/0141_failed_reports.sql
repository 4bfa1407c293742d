-- What Stripe did not take or does not count is told with each standing.
create index meter_events_failed on meter_events (organization_id, at) where state = 'failed';
