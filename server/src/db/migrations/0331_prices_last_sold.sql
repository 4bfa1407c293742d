-- The catalog version in which a price was sold last: its terms are those of whoever gets it after it has ceased to be sold, from a schedule or a page of
-- before. Not known of prices that ceased to be sold before this.
alter table plan_prices add column last_catalog_version integer references catalog_versions (version);
alter table usage_prices add column last_catalog_version integer references catalog_versions (version);
