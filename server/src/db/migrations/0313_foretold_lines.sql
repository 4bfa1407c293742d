-- What Stripe said of the next invoice is kept line by line, with the discounts that it takes off: one that is over by then, or limited to a product, does not come off
-- what was used since. What was kept in the former way is asked for again.
delete from upcoming_invoices;
alter table upcoming_invoices
  drop column subtotal_minor,
  drop column metered_minor,
  -- Those that discounts come off, and those of what Stripe's meters had counted, which is counted again when it is read: [{"amountMinor", "priceId", "productId", "itemId", "isMetered"}].
  add column lines jsonb not null,
  -- In the order in which they come off: [{"itemId", "products", "percentOff", "amountOffMinor"}].
  add column discounts jsonb not null;
