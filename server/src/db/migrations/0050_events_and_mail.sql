-- Events of ours: what happened to an organization, told to its applications (webhooks) and its people (mail).
-- A row is written in the transaction of what happened; the row is the job: it is due until handed_out_at is set.
create table events (
  organization_id text not null,
  -- Follows from organization and key, so the same thing is never told twice; unique over all organizations.
  id text not null unique,
  -- What happened, of which object: `invoice.paid:in_123`.
  key text not null,
  type text not null,
  data jsonb not null,
  -- The organization's time.
  occurred_at timestamptz not null,
  -- In which order they were written.
  sequence bigint generated always as identity,
  -- The server's time.
  handed_out_at timestamptz,
  primary key (organization_id, id)
);
create index events_due on events (sequence) where handed_out_at is null;
create index events_newest on events (organization_id, sequence desc);
create index events_all_newest on events (sequence desc);

-- Mails are stored before they are sent. One row per recipient; id follows from what the mail is about and who gets it.
create table mails (
  id text primary key,
  -- null for mails to a person as such: verification of an address, reset of a password.
  organization_id text,
  kind text not null,
  recipient text not null,
  subject text not null,
  -- null once a mail that held a secret was sent.
  text_body text,
  html_body text,
  holds_secret boolean not null,
  -- kept: there is no SMTP server; it is read by `tollgate mails`.
  state text not null check (state in ('pending', 'sent', 'kept', 'failed')),
  attempts integer not null default 0,
  last_error text,
  created_at timestamptz not null,
  -- Also the end of the lease of who sends it now.
  next_attempt_at timestamptz not null,
  finished_at timestamptz
);
create index mails_due on mails (next_attempt_at) where state = 'pending';
create index mails_newest on mails (created_at desc, id desc);
create index mails_of_organization on mails (organization_id, created_at desc, id desc);
