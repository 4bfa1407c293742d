import { RESTORED_ITEM_METADATA } from '../gateway/invoice-items.ts'

/** Each `item` that was to wait for the next invoice when the call of an `intent` made the invoice of a change. */
export const PENDING_ITEMS = `stripe_intents intent cross join lateral jsonb_array_elements_text(intent.params -> 'pendingItemIds') item (id)`

/**
 * Of `PENDING_ITEMS` and an `invoice`: that the invoice of the change took the item along, and that it has not been made again. Stripe leaves it on
 * that invoice, also where that is voided. A resumption that was not told to wait (`paused`) has come about: whoever voids its invoice forgives it.
 */
export const IS_TAKEN_ALONG = `intent.params ? 'pendingItemIds' and intent.state <> 'failed'
    and (intent.kind = 'update_subscription' or coalesce(intent.result ->> 'status', 'paused') = 'paused')
    and invoice.organization_id = intent.organization_id and invoice.billing_reason = 'subscription_update'
    and jsonb_path_exists(
      invoice.data, '$.lines.data[*].parent.*.invoice_item ? (@ == $id)', jsonb_build_object('id', item.id))
    and not exists (
      select from stripe_intents made
      where made.organization_id = intent.organization_id and made.kind = 'create_invoice_item' and made.state <> 'abandoned'
        and made.params #>> '{metadata,${RESTORED_ITEM_METADATA}}' = item.id)`
