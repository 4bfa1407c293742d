-- Stripe names a report by its identifier alone when it says what is wrong with it.
create index meter_events_by_identifier on meter_events (identifier);
