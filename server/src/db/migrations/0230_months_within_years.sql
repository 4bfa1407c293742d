-- A year that became months in a later month was billed the rest of the running month, as a proration: its first span was
-- taken for a whole month, and its base fee stood on the statement besides.
update billing_spans span set whole = false
from billing_spans year
where span.kind = 'base' and span.whole and year.organization_id = span.organization_id
  and year.subscription_id = span.subscription_id and year.kind = 'base' and year.id <> span.id
  and year.period_start < span.period_start and span.period_start < year.period_end and year.period_end <> span.period_end
  and year.state = 'closed' and year.ends_at <= span.starts_at
  and not exists (
    select from stripe_invoices invoice cross join lateral jsonb_array_elements(invoice.data -> 'lines' -> 'data') line
    where invoice.organization_id = span.organization_id and invoice.subscription_id = span.subscription_id
      and line #>> '{pricing,price_details,price}' = span.stripe_price_id
      and (line -> 'period' ->> 'start')::bigint = extract(epoch from span.period_start)
      and (line -> 'parent' -> 'subscription_item_details' -> 'proration' is distinct from 'true'::jsonb)
      and (line -> 'parent' -> 'invoice_item_details' -> 'proration' is distinct from 'true'::jsonb)
  );
