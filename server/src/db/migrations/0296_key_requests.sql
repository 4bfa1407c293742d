-- Under which Idempotency-Key a key was asked for, and with what: a repeat finds it. Whether it was ever used: one that was not may never
-- have arrived, and is given a new secret by the repeat.
alter table api_keys
  add column request_key text,
  add column request jsonb,
  add column first_used_at timestamptz,
  add constraint api_keys_request check ((request_key is null) = (request is null));
create unique index api_keys_by_request on api_keys (organization_id, request_key) where request_key is not null;
