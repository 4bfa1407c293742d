-- What was refunded of an invoice stands with the invoice now. Those of before are filled in by refetching whom they belong to.
update stripe_syncs set suspected_at = coalesce(suspected_at, now())
where organization_id in (select organization_id from stripe_charges where amount_refunded_minor > 0);
