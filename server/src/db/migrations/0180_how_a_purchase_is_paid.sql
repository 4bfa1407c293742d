-- Whether a package was to be paid on a page, so that going on with its purchase never charges the saved method instead.
alter table top_up_purchases add column pay_with text check (pay_with in ('saved', 'page'));
