-- How much of a grant's count each line of a statement (a span) has billed, so that a line can be explained: `late` is what came after
-- the invoice of its own time was closed. Rows from before this have no line.
alter table reported_grants
  add column span_id text not null default '',
  add column late boolean not null default false;
alter table reported_grants drop constraint reported_grants_pkey,
  add primary key (organization_id, grant_id, reports, span_id, late);
create index reported_grants_by_span on reported_grants (organization_id, span_id);

-- What a report holds of each grant, [[grant, quantity], …]: it moves with the report where that comes on a later invoice.
alter table meter_events add column parts jsonb not null default '[]';
