-- A debit of a bank account fails days after it was made: its invoice is owed from then on, and not from when it was due. Stripe does not
-- say when that was, so it is when it was heard of; null where a payment failed at once. A column without a default rewrites no row.
alter table stripe_charges add column failed_at timestamptz;
