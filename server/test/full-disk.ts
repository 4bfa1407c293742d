import type { Queryable } from '../src/db/database.ts'

/** Whatever is written to a table fails as PostgreSQL fails without room (53100), or without memory for a statement, until `makeRoom`. */
export async function refuseWrites(db: Queryable, table: string, sqlstate = '53100'): Promise<void> {
  await db.query(
    `create function refuse_writes() returns trigger language plpgsql as
       $$ begin raise 'could not extend file' using errcode = '${sqlstate}'; end $$;
     create trigger refuse_writes before insert or update on ${table} for each row execute function refuse_writes()`,
  )
}

export async function makeRoom(db: Queryable): Promise<void> {
  await db.query('drop function if exists refuse_writes cascade')
}
