-- CB-7: people, newest first, found by the beginning of their id, name or address, and counted without counting.
create index users_newest on users (created_at desc, id desc);
create index users_search_id on users (id text_pattern_ops);
create index users_search_name on users (lower(name) text_pattern_ops);
create index users_search_email on users (lower(email) text_pattern_ops);

create trigger tally_insert after insert on users referencing new table as added
  for each statement execute function tally_organizations();
create trigger tally_delete after delete on users referencing old table as removed
  for each statement execute function tally_organizations();
insert into tallies select 'users', '', '', '', count(*), 0 from users having count(*) > 0;
