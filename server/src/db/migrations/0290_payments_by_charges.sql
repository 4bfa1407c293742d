-- An invoice from before payment intents is paid by a charge alone: the ids of its payments are those of intents and of charges. Renames in place; rewrites the
-- rows of such invoices and no others, and what of them was refunded or disputed comes by refetching whom they belong to.
alter table stripe_invoices rename column payment_intent_ids to payment_ids;
update stripe_invoices set payment_ids = payment_ids || charged.ids
from (
  select organization_id, id, array(
    select jsonb_path_query(data, '$.payments.data[*].payment.charge ? (@.type() == "string")') #>> '{}') as ids
  from stripe_invoices
) charged
where charged.ids <> '{}' and stripe_invoices.organization_id = charged.organization_id and stripe_invoices.id = charged.id;
update stripe_syncs set suspected_at = coalesce(suspected_at, now())
where organization_id in (
  select organization_id from stripe_invoices where data @? '$.payments.data[*].payment.charge ? (@.type() == "string")'
);
