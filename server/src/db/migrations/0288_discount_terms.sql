-- What is taken off a subscription: each discount with the item that it is of, or null where it is of all, and with the products to which its coupon is
-- limited. Monthly revenue reads it here. Those of single items, and limits, come with the next refetch of their subscription. Rewrites the rows of
-- discounted subscriptions and no others.
alter table stripe_subscriptions add column discounts jsonb not null default '[]';
update stripe_subscriptions set discounts = known.discounts
from (
  select organization_id, id, jsonb_agg(jsonb_build_object('itemId', null,
    'percentOff', discount -> 'source' -> 'coupon' -> 'percent_off',
    'amountOffMinor', coalesce((discount -> 'source' -> 'coupon' ->> 'amount_off')::bigint, 0),
    'duration', discount -> 'source' -> 'coupon' -> 'duration',
    'endsAt', to_timestamp((discount ->> 'end')::bigint), 'products', null) order by position) as discounts
  from stripe_subscriptions,
    jsonb_array_elements(case jsonb_typeof(data -> 'discounts') when 'array' then data -> 'discounts' end)
      with ordinality as listed (discount, position)
  where jsonb_typeof(discount -> 'source' -> 'coupon') = 'object'
  group by organization_id, id
) known
where stripe_subscriptions.organization_id = known.organization_id and stripe_subscriptions.id = known.id;
