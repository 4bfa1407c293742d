-- Whether a move of a plan migration changes what use costs: such a one is scheduled at Stripe also where the plan's own price stays.
alter table plan_migration_moves add column reprices_use boolean not null default false;
