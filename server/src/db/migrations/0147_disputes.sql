-- Disputes of charges, and what of an invoice's payment came back.
create table stripe_disputes (
  organization_id text not null references organizations (id),
  id text not null unique,
  charge_id text not null,
  amount_minor bigint not null,
  currency text not null,
  reason text not null,
  status text not null,
  -- Until when evidence can be handed in; null when there is nothing to answer.
  due_at timestamptz,
  created_at timestamptz not null,
  -- When it was first seen to be over, by the organization's time: Stripe does not say when it was.
  closed_at timestamptz,
  data jsonb not null,
  refreshed_at timestamptz not null,
  digest text,
  primary key (organization_id, id)
);
create index stripe_disputes_of_charge on stripe_disputes (organization_id, charge_id);
create index stripe_disputes_open on stripe_disputes (due_at) where closed_at is null;

-- Which payments an invoice was paid by, what of them was refunded, and the newest dispute of one of them.
alter table stripe_invoices
  add column payment_intent_ids text[] not null default '{}',
  add column amount_refunded_minor bigint not null default 0,
  add column dispute_id text;
