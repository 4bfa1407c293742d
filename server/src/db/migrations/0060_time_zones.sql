-- The zone of an organization's calendar periods (an IANA name); null is the catalog's.
alter table organizations add column time_zone text;

-- The plan's allowance of an event's period, where balance, period and period_start do not name it: a calendar period of another zone
-- than UTC is named by its local date.
alter table usage_events add column plan_grant text;
