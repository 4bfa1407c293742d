-- Metering keeps account rows in memory and asks, under the account's lock, only whether the row is still the version that it knows
-- (docs/decisions/0163-account-rows-are-kept.md). What it knows of the organization itself goes with that row: who changes it makes a
-- new version of the account.
create function touch_account() returns trigger language plpgsql set search_path from current as $$
begin
  update accounts set updated_at = updated_at where organization_id = new.id;
  return null;
end $$;
create trigger touch_account after update of created_at, test_clock_now, time_zone on organizations for each row
  when ((old.created_at, old.test_clock_now, old.time_zone) is distinct from (new.created_at, new.test_clock_now, new.time_zone))
  execute function touch_account();
