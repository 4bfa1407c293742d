-- Since 0260 a line that a change of plan ended kept the ids of its allowances as one text, `{a,b}`, instead of a list.
update billing_spans set included = jsonb_set(included, '{grantIds}', to_jsonb((included ->> 'grantIds')::text[]))
where jsonb_typeof(included -> 'grantIds') = 'string';
