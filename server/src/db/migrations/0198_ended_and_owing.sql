-- When the subscription on which an account stands ended: at once or by dunning, which is not when its period does.
alter table accounts add column ended_at timestamptz;
-- Since when it owes for a subscription that ended (docs/concepts.md, "Delinquent").
alter table accounts add column left_owing_since timestamptz;

update accounts account set ended_at = subscription.ended_at
from stripe_subscriptions subscription
where subscription.organization_id = account.organization_id and subscription.id = account.subscription_id
  and subscription.ended_at is not null;

update accounts account set left_owing_since = owed.since
from (
  select invoice.organization_id, min(coalesce(invoice.finalized_at, invoice.created_at)) as since
  from stripe_invoices invoice join stripe_subscriptions subscription
    on subscription.organization_id = invoice.organization_id and subscription.id = invoice.subscription_id
  where invoice.status = 'open' and invoice.attempted and invoice.amount_remaining_minor > 0 and subscription.status = 'canceled'
  group by invoice.organization_id
) as owed
where owed.organization_id = account.organization_id;

drop index accounts_delinquent;
create index accounts_delinquent on accounts (organization_id) where coalesce(payment_failed_at, left_owing_since) is not null;
