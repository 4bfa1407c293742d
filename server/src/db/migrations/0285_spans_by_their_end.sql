-- Whose period is over or ends soon is asked each minute (docs/decisions/0285-what-everybody-costs.md). Of 198,000 spans that take reports, and 800,000 that
-- do not, it took a second and 1.4 MB; it reads the table once, and blocks its writes meanwhile.
create index billing_spans_ending on billing_spans (ends_at) where state <> 'closed' and kind = 'usage';
-- What an organization has not sent yet, among all that ever was: empty but for what waits. Making it reads the table once, too.
create index meter_events_waiting on meter_events (organization_id) where state = 'pending';
