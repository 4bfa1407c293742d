-- What Stripe said the next invoice comes to, when an organization was last asked about (KF-9). It holds until the mirror changes.
create table upcoming_invoices (
  organization_id text primary key references organizations (id),
  -- Before discounts, and after.
  subtotal_minor bigint not null,
  total_minor bigint not null,
  -- Of the subtotal, the lines of what Stripe's meters had counted; what has been used since is added when it is read.
  metered_minor jsonb not null,
  -- Below zero is a credit of the customer.
  balance_minor bigint not null,
  computed_at timestamptz not null
);
