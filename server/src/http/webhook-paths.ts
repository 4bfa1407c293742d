/** MR-3, KF-11, EM-6: three names of one webhook. */
export const WEBHOOK_PATHS = ['/api/v1/billing/webhook', '/api/v1/billing/webhooks', '/api/v1/webhooks/stripe'] as const
