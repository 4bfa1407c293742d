-- stripe_events_unhandled (0095) nearly repeated stripe_events_due, and each event paid for both. What counts the unhandled ones reads
-- stripe_events_open_of_customer, which holds the same rows.
drop index stripe_events_unhandled;
