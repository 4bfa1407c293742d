import type { Db, Queryable } from '../src/db/database.ts'

/**
 * Refuses, in every test, a change of a grant by a transaction that does not hold the lock of its account (`lockAccounts`): such a change may
 * take use with it that a group counts in the same moment. Whoever locked a row is its `xmax`, whoever made it its `xmin`
 * (https://www.postgresql.org/docs/current/ddl-system-columns.html).
 */
export const GRANTS_UNDER_LOCK = `
  create function grants_under_lock() returns trigger language plpgsql security definer as $$
  declare
    own xid := pg_current_xact_id()::xid;
  begin
    perform from accounts where organization_id = new.organization_id and (xmax = own or xmin = own);
    if not found then
      raise exception 'A grant of % is changed without the lock of its account.', new.organization_id;
    end if;
    return null;
  end $$;
  create trigger under_lock after insert or update on grants for each row execute function grants_under_lock()`

/** Writes rows as a test needs them, which nothing of the server's would: triggers and foreign keys are left aside. */
export function writeAside<Result>(db: Db, work: (tx: Queryable) => Promise<Result>): Promise<Result> {
  return db.transaction(async (tx) => {
    await tx.query('set local session_replication_role = replica')
    return work(tx)
  })
}
