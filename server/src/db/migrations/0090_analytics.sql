-- What each organization brings in a month, now; one row per currency. Written when its account is derived (analytics/ledger.ts).
-- mrr is millionths of a minor unit: a twelfth of a yearly price is no whole cent.
create table mrr_accounts (
  organization_id text not null references organizations (id),
  currency text not null,
  plan_key text not null,
  -- Of the best standing subscription in this currency.
  status text not null,
  mrr bigint not null check (mrr >= 0),
  -- How many movements there are: the number of the last one.
  movements integer not null default 0,
  moved_at timestamptz,
  -- When the first invoice of more than nothing was paid: the customer's cohort.
  first_paid_at timestamptz,
  primary key (organization_id, currency)
);
create index mrr_accounts_by_cohort on mrr_accounts (first_paid_at) where first_paid_at is not null;

-- How it came to that: each change once, in order. The sum of an organization's amounts is its mrr; number makes a replay harmless.
create table mrr_movements (
  organization_id text not null references organizations (id),
  currency text not null,
  number integer not null,
  kind text not null check (kind in ('new', 'expansion', 'contraction', 'churn', 'reactivation')),
  amount bigint not null check ((amount < 0) = (kind in ('contraction', 'churn')) and amount <> 0),
  mrr_after bigint not null check (mrr_after >= 0),
  plan_key text not null,
  -- The organization's own time: its test clock's where it lives on one.
  occurred_at timestamptz not null,
  recorded_at timestamptz not null,
  primary key (organization_id, currency, number)
);
create index mrr_movements_by_time on mrr_movements (occurred_at) include (currency, kind, amount);

-- The sums at the end of each day (UTC), so that a report need not add up everything. Their presence affects cost, never meaning:
-- a movement that is dated into a day takes that day's row, and those after it, away.
create table mrr_days (
  day date not null,
  currency text not null,
  mrr bigint not null,
  customers bigint not null,
  primary key (day, currency)
);

-- How many rows there are, without counting them: triggers add differences, a job folds them. Rows are only ever inserted, so no two
-- transactions wait for each other; what a reader adds up is what is committed.
create table tallies (
  subject text not null,
  status text not null,
  plan_key text not null,
  currency text not null,
  count bigint not null,
  amount bigint not null
);

create function tally_organizations() returns trigger language plpgsql security definer set search_path from current as $$
begin
  if tg_op = 'INSERT' then
    insert into tallies select tg_table_name, '', '', '', count(*), 0 from added having count(*) > 0;
  else
    insert into tallies select tg_table_name, '', '', '', -count(*), 0 from removed having count(*) > 0;
  end if;
  return null;
end $$;

create function tally_by_status() returns trigger language plpgsql security definer set search_path from current as $$
begin
  if tg_op = 'INSERT' then
    insert into tallies select tg_table_name, status, '', '', count(*), 0 from added group by status;
  elsif tg_op = 'DELETE' then
    insert into tallies select tg_table_name, status, '', '', -count(*), 0 from removed group by status;
  else
    insert into tallies select tg_table_name, status, '', '', sum(change), 0
    from (select status, 1 as change from added union all select status, -1 from removed) changes
    group by status having sum(change) <> 0;
  end if;
  return null;
end $$;

create function tally_mrr() returns trigger language plpgsql security definer set search_path from current as $$
begin
  if tg_op = 'INSERT' then
    insert into tallies select tg_table_name, status, plan_key, currency, count(*), sum(mrr) from added group by status, plan_key, currency;
  elsif tg_op = 'DELETE' then
    insert into tallies select tg_table_name, status, plan_key, currency, -count(*), -sum(mrr)
    from removed group by status, plan_key, currency;
  else
    insert into tallies select tg_table_name, status, plan_key, currency, sum(change), sum(amount)
    from (
      select status, plan_key, currency, 1 as change, mrr as amount from added
      union all select status, plan_key, currency, -1, -mrr from removed
    ) changes
    group by status, plan_key, currency having sum(change) <> 0 or sum(amount) <> 0;
  end if;
  return null;
end $$;

create trigger tally_insert after insert on organizations referencing new table as added
  for each statement execute function tally_organizations();
create trigger tally_delete after delete on organizations referencing old table as removed
  for each statement execute function tally_organizations();

create trigger tally_insert after insert on stripe_subscriptions referencing new table as added
  for each statement execute function tally_by_status();
create trigger tally_update after update on stripe_subscriptions referencing old table as removed new table as added
  for each statement execute function tally_by_status();
create trigger tally_delete after delete on stripe_subscriptions referencing old table as removed
  for each statement execute function tally_by_status();

create trigger tally_insert after insert on stripe_invoices referencing new table as added
  for each statement execute function tally_by_status();
create trigger tally_update after update on stripe_invoices referencing old table as removed new table as added
  for each statement execute function tally_by_status();
create trigger tally_delete after delete on stripe_invoices referencing old table as removed
  for each statement execute function tally_by_status();

create trigger tally_insert after insert on stripe_charges referencing new table as added
  for each statement execute function tally_by_status();
create trigger tally_update after update on stripe_charges referencing old table as removed new table as added
  for each statement execute function tally_by_status();
create trigger tally_delete after delete on stripe_charges referencing old table as removed
  for each statement execute function tally_by_status();

create trigger tally_insert after insert on mrr_accounts referencing new table as added
  for each statement execute function tally_mrr();
create trigger tally_update after update on mrr_accounts referencing old table as removed new table as added
  for each statement execute function tally_mrr();
create trigger tally_delete after delete on mrr_accounts referencing old table as removed
  for each statement execute function tally_mrr();

-- What is there already is counted once.
insert into tallies select 'organizations', '', '', '', count(*), 0 from organizations having count(*) > 0;
insert into tallies select 'stripe_subscriptions', status, '', '', count(*), 0 from stripe_subscriptions group by status;
insert into tallies select 'stripe_invoices', status, '', '', count(*), 0 from stripe_invoices group by status;
insert into tallies select 'stripe_charges', status, '', '', count(*), 0 from stripe_charges group by status;
-- What accounts bring follows when each is next derived: reconciliation does that within a day.

create index stripe_invoices_open on stripe_invoices (organization_id) where status = 'open';
create index stripe_invoices_paid on stripe_invoices (paid_at) include (currency, amount_paid_minor) where status = 'paid';
create index stripe_subscriptions_by_trial on stripe_subscriptions (trial_start) where trial_start is not null;
