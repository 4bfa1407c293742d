-- A span knows the period of Stripe's in which it lies, and what one costs of what is not metered.
alter table billing_spans
  add column period_start timestamptz not null,
  add column period_end timestamptz not null,
  add column unit_amount_minor bigint not null;
