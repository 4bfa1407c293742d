-- A balance that has to wait (the month's purchases are used up, a card failed, a payment is on its way) says until when. A use makes
-- its request due at once by taking looked_at away, so that what is not waiting is bought within seconds.
alter table auto_top_up_requests add column wait_until timestamptz;
