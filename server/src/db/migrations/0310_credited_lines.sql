-- What credit notes have taken off single lines of an invoice, discounts and tax included: {"<id of the line>": <minor units>}. A column with a constant default
-- rewrites no row. The lines of notes that there are come by refetching whom they belong to; until then nothing is given back by what the mirror holds.
alter table stripe_invoices add column credited_lines jsonb not null default '{}';
update stripe_syncs set suspected_at = coalesce(suspected_at, now())
where organization_id in (select organization_id from stripe_invoices where amount_credited_minor > 0);
