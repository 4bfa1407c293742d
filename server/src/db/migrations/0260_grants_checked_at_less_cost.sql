-- PostgreSQL reads the text of a table's checks anew in each statement that writes to it: the fifteen of grants were an eighth of what a use over HTTP cost it
-- (docs/decisions/0260-what-a-check-costs.md). Counts are looked at by one; what is said once, when a grant is made, is said by types, which only a value that is
-- given passes through.
alter table grants
  drop constraint grants_amount_check,
  drop constraint grants_used_check,
  drop constraint grants_overage_check,
  drop constraint grants_reserved_check,
  drop constraint grants_revoked_check,
  drop constraint grants_held_overage_check,
  drop constraint grants_free_used_check,
  drop constraint grants_free_overage_check,
  drop constraint grants_priced_overage_check,
  drop constraint grants_priced_minor_check,
  drop constraint grants_used_elsewhere_check,
  drop constraint grants_id_check,
  drop constraint grants_kind_check,
  drop constraint grants_limit_kind_check,
  add constraint grants_count_upwards check (
    least(
      amount, used, overage, reserved, revoked, held_overage, free_used, free_overage, priced_overage, priced_minor, used_elsewhere
    ) >= 0
  );

-- Without a check a type of text is taken on as it is; with one PostgreSQL would write the table anew.
create domain grant_id as text;
create domain grant_kind as text;
create domain grant_limit_kind as text;
alter table grants
  alter column id type grant_id,
  alter column kind type grant_kind,
  alter column limit_kind type grant_limit_kind;
alter domain grant_id add constraint grant_id_length check (length(value) between 1 and 200);
alter domain grant_kind add constraint grant_kind_known check (value in ('plan', 'top_up', 'promotion', 'rollover', 'manual'));
alter domain grant_limit_kind add constraint grant_limit_kind_known check (value in ('hard', 'soft'));
