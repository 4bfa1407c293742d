-- The few updates that take the place of a schedule, which a job looks for each minute among all that was asked of Stripe.
create index stripe_intents_superseding on stripe_intents ((params ->> 'supersedesScheduleId'))
  where params ->> 'supersedesScheduleId' is not null;
