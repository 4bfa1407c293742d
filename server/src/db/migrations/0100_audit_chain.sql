-- EM-14. The audit log is append-only, and each entry is chained to the one before of the same organization by its hash
-- (docs/decisions/0101-audit-chain.md). Entries of no organization are a chain of their own.
alter table audit_log
  add column position bigint,
  add column previous_hash bytea,
  add column hash bytea;
-- One place of a chain is taken once; also the order in which a chain is verified.
create unique index audit_log_in_chain on audit_log (coalesce(organization_id, ''), position);
-- What the running transaction has yet to chain. Nothing committed is in here.
create index audit_log_unchained on audit_log (id) where hash is null;
create index audit_log_by_actor on audit_log (actor, id desc);
create index audit_log_by_action on audit_log (action, id desc);

-- Where each chain ends: its lock, and what shows that its last entries were cut off.
create table audit_heads (
  chain text primary key,
  organization_id text,
  position bigint not null,
  hash bytea not null
);

-- What an entry's hash is over: all that it says, in one form. jsonb writes the same value always alike.
create function audit_content(entry audit_log) returns text language sql stable set search_path from current as $$
  select jsonb_build_array(
    entry.id, entry.organization_id, entry.actor, entry.action, entry.target, entry.before, entry.after, entry.request_id,
    to_char(entry.at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
  )::text
$$;

-- Chains the entries of the transaction when it commits, in the order of the chains: their locks are the last that a
-- transaction takes, and always in one order, so that no two can wait for each other.
create function audit_chain_pending() returns void language plpgsql security definer set search_path from current as $$
declare
  entry audit_log%rowtype;
  head audit_heads%rowtype;
  digest bytea;
begin
  for entry in select * from audit_log where hash is null order by coalesce(organization_id, '') collate "C", id loop
    insert into audit_heads (chain, organization_id, position, hash)
    values (coalesce(entry.organization_id, ''), entry.organization_id, 0, decode(repeat('00', 32), 'hex'))
    on conflict (chain) do nothing;
    select * into head from audit_heads where chain = coalesce(entry.organization_id, '') for update;
    digest := sha256(head.hash || convert_to(audit_content(entry), 'UTF8'));
    update audit_log set position = head.position + 1, previous_hash = head.hash, hash = digest where id = entry.id;
    update audit_heads set position = head.position + 1, hash = digest where chain = head.chain;
  end loop;
end $$;

create function audit_chain() returns trigger language plpgsql set search_path from current as $$
begin
  perform audit_chain_pending();
  return null;
end $$;

create function audit_refuse() returns trigger language plpgsql set search_path from current as $$
begin
  raise exception 'the audit log is only ever added to' using errcode = 'insufficient_privilege';
end $$;

-- Whoever inserts cannot say where the entry stands, and nothing of it changes but that, once.
create function audit_unchained() returns trigger language plpgsql set search_path from current as $$
begin
  new.position := null;
  new.previous_hash := null;
  new.hash := null;
  return new;
end $$;

-- What is there already, in the order in which it was written.
select audit_chain_pending();

create trigger audit_unchained before insert on audit_log for each row execute function audit_unchained();
create constraint trigger audit_chain after insert on audit_log deferrable initially deferred
  for each row execute function audit_chain();
create trigger audit_unchanged before update on audit_log for each row
  when (
    old.hash is not null or new.hash is null
    or (old.id, old.organization_id, old.actor, old.action, old.target, old.before, old.after, old.request_id, old.at)
      is distinct from (new.id, new.organization_id, new.actor, new.action, new.target, new.before, new.after, new.request_id, new.at)
  )
  execute function audit_refuse();
create trigger audit_kept before delete on audit_log for each row execute function audit_refuse();
create trigger audit_not_emptied before truncate on audit_log for each statement execute function audit_refuse();
create trigger audit_heads_kept before delete on audit_heads for each row execute function audit_refuse();
create trigger audit_heads_not_emptied before truncate on audit_heads for each statement execute function audit_refuse();
