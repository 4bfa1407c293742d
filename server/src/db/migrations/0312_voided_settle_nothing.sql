-- An invoice that was voided after it was written down settles nothing, and is not owed (KF-11).
delete from settled_usage known using stripe_invoices invoice
where invoice.organization_id = known.organization_id and invoice.id = known.invoice_id and invoice.status = 'void';
