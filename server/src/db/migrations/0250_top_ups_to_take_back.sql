-- Finds purchases of which something is still to be taken back, once holds let go of it: looked for every second, and nearly always none.
create index top_up_purchases_to_take_back on top_up_purchases (organization_id)
  where taken_back < amount and (disputed or refunded_minor > 0);
