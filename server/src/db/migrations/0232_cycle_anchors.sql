-- The moment from which Stripe counts the periods of a subscription: months of allowance are counted from it too. The day of an anchor
-- that a month lacks is lost in the period's own dates (a year from 29 February begins again on the 28th).
alter table stripe_subscriptions add column cycle_anchor timestamptz;
alter table accounts add column cycle_anchor timestamptz;
alter table account_terms add column cycle_anchor timestamptz;

update stripe_subscriptions set cycle_anchor = to_timestamp((data ->> 'billing_cycle_anchor')::bigint);

update accounts account set cycle_anchor = subscription.cycle_anchor
from stripe_subscriptions subscription
where subscription.organization_id = account.organization_id and subscription.id = account.subscription_id;

update account_terms terms set cycle_anchor = account.cycle_anchor
from accounts account
where account.organization_id = terms.organization_id and terms.cycle_start is not null and terms.since = account.terms_since;
