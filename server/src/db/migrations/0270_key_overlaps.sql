-- When the overlap of a key that was replaced is over. Its own end stays beside it: who rotates it again, as its answer was lost,
-- gets a key that lives as long as this one would have.
alter table api_keys add column overlap_ends_at timestamptz;
