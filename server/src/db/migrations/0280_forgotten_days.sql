-- A movement takes away the sums of its day and of those after it, which it is not in: by whatever clock somebody has closed them, and whoever writes it down.
-- As the owner: under the tenants' role, in which a customer's own request writes, a table of all organizations is closed. The delete, also of no
-- row, holds the table against the job that writes days (analytics/ledger-store.ts) until the movement is committed. Costs a look at an index per movement.
create function forget_mrr_days() returns trigger language plpgsql security definer set search_path from current as $$
begin
  delete from mrr_days where day >= (select min(occurred_at at time zone 'UTC')::date from added);
  return null;
end $$;

create trigger forget_days after insert on mrr_movements referencing new table as added
  for each statement execute function forget_mrr_days();
