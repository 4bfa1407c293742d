-- What is subscribed to beside a plan. A price that sold an add-on stays known for as long as somebody has it.
create table add_on_prices (
  stripe_price_id text primary key,
  stripe_product_id text not null,
  add_on_key text not null,
  price_key text not null,
  catalog_version integer not null references catalog_versions (version),
  amount_minor bigint not null,
  currency text not null,
  created_at timestamptz not null,
  superseded_at timestamptz
);
create unique index add_on_prices_offered on add_on_prices (add_on_key, price_key) where superseded_at is null;

-- How many of each add-on the subscription has, by its key; derived from the mirror with the rest of the account.
alter table accounts add column add_ons jsonb not null default '{}';
