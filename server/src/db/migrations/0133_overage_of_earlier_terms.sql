-- Of a grant's overage: what was priced by a plan that stands no longer, and what that costs. null is nothing, which it nearly always is.
alter table grants
  add column priced_overage bigint check (priced_overage >= 0),
  add column priced_minor bigint check (priced_minor >= 0);
