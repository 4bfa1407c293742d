-- Until when a report of use waits after a call that failed; null is due. In real time, also where the organization's own clock stands.
alter table meter_events add column next_attempt_at timestamptz;
