-- The organizations on test clocks, which are few: whether one has a clock of its own is asked with every use.
create index organizations_on_test_clocks on organizations (id) include (test_clock_now) where test_clock_now is not null;
