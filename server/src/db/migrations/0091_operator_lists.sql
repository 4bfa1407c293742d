-- Lists over all organizations: each order and each frequent filter has its index, so that a page costs the same however many rows there are.
create index organizations_newest on organizations (created_at desc, id desc);
create index organizations_by_name on organizations (lower(name), id);
-- Search by the beginning of an id, a name, an address or a customer's id, and of any word of name and address.
create index organizations_search_id on organizations (lower(id) text_pattern_ops);
create index organizations_search_name on organizations (lower(name) text_pattern_ops);
create index organizations_search_email on organizations (lower(email) text_pattern_ops);
create index organizations_search_customer on organizations (stripe_customer_id text_pattern_ops);
create index organizations_search_words on organizations using gin (to_tsvector('simple', name || ' ' || email)) with (fastupdate = off);

create index accounts_by_plan on accounts (coalesce(override_plan_key, plan_key));
create index accounts_by_status on accounts (subscription_status);
create index accounts_delinquent on accounts (organization_id) where payment_failed_at is not null;
create index accounts_overridden on accounts (organization_id)
  where coalesce(override_plan_key, override_status) is not null or coalesce(override_trial_ends_at, override_expires_at) is not null;

create index stripe_customers_by_currency on stripe_customers (currency);

drop index stripe_subscriptions_by_status;
create index stripe_subscriptions_by_status on stripe_subscriptions (status, created_at desc, id desc);
create index stripe_subscriptions_by_currency on stripe_subscriptions (currency, created_at desc, id desc);
create index stripe_subscriptions_all_newest on stripe_subscriptions (created_at desc, id desc);
create index stripe_subscriptions_search_id on stripe_subscriptions (id text_pattern_ops);

create index stripe_invoices_by_status on stripe_invoices (status, created_at desc, id desc);
create index stripe_invoices_by_currency on stripe_invoices (currency, created_at desc, id desc);
create index stripe_invoices_search_id on stripe_invoices (id text_pattern_ops);
create index stripe_invoices_search_number on stripe_invoices (number text_pattern_ops);

create index stripe_charges_by_status on stripe_charges (status, created_at desc, id desc);
create index stripe_charges_search_id on stripe_charges (id text_pattern_ops);
