-- What a plan's allowance was when a change of plan ended its line, and how much of it was used: the grant goes on under other terms.
alter table billing_spans add column included jsonb;
