-- Whether keys from before 0296 were used was not written down: they count as used since they were made, or a key at work that has not called
-- since would look like one that never arrived, which is to be revoked. One row for each key, once.
update api_keys set first_used_at = created_at where first_used_at is null and request_key is null;
