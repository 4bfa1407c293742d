-- What credit notes have taken off an invoice, in all; of it, what its payments were refunded by them, and what was given back outside of Stripe. The rest
-- lowered what was due, or is in the customer's balance. Columns with constant defaults rewrite no row. How notes on paid invoices are divided comes by refetching
-- whom they belong to.
alter table stripe_invoices
  add column amount_credited_minor bigint not null default 0,
  add column credited_by_refund_minor bigint not null default 0,
  add column credited_outside_minor bigint not null default 0;
update stripe_invoices set amount_credited_minor = noted.minor
from (
  select organization_id, id, coalesce((data ->> 'pre_payment_credit_notes_amount')::bigint, 0)
    + coalesce((data ->> 'post_payment_credit_notes_amount')::bigint, 0) as minor
  from stripe_invoices
) noted
where noted.minor > 0 and stripe_invoices.organization_id = noted.organization_id and stripe_invoices.id = noted.id;
update stripe_syncs set suspected_at = coalesce(suspected_at, now())
where organization_id in (
  select organization_id from stripe_invoices where (data ->> 'post_payment_credit_notes_amount')::bigint > 0
);
