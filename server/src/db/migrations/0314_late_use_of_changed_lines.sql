-- Use told late of a line that a change of plan has ended (docs/decisions/0130-where-late-use-counts.md). One row for each such line and allowance.
create table late_use (
  organization_id text not null references organizations (id),
  -- The line, in billing_spans.
  span_id text not null,
  grant_id text not null,
  -- As the change found them: what could still be drawn of the allowance, and of the grants that are drawn before and after it (null is without end);
  -- what use of its period had drawn of it and of others, and what of that had come late from before earlier changes.
  room bigint,
  room_before bigint,
  room_after bigint,
  drawn bigint not null,
  drawn_elsewhere bigint not null,
  passed bigint not null,
  passed_elsewhere bigint not null,
  -- What was told late of the line's time; what of it, and of what it displaced, the line counts; and what of that lines of late use bill.
  told bigint not null default 0,
  counted bigint not null default 0,
  billed bigint not null default 0,
  primary key (organization_id, span_id, grant_id)
);

-- A line of late use is a span of its own, on the next invoice as an item: 'late', the line whose price it is, and what it came to when its item was asked for.
alter table billing_spans add column late_of text, add column amount_minor bigint;
alter table billing_spans drop constraint billing_spans_kind_check,
  add constraint billing_spans_kind_check check (kind in ('base', 'usage', 'late')) not valid;
create index billing_spans_late on billing_spans (organization_id, late_of) where kind = 'late';
create index billing_spans_to_charge on billing_spans (organization_id) where kind = 'late' and state <> 'closed';
create index late_use_of_grant on late_use (organization_id, grant_id);
create index late_use_fallen on late_use (organization_id) where counted < billed;
