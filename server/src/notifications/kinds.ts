/** The kinds of mail about billing, as people choose them. */
export const notificationKinds = {
  payment: { summary: 'A payment failed, use is about to stop or has stopped, a payment was made after all.', required: true },
  trial: { summary: 'A trial is about to end.', required: false },
  card: { summary: 'The card that pays is about to expire.', required: false },
  subscription: { summary: 'The subscription has ended.', required: true },
  usage: { summary: 'An allowance is partly or wholly used up, or a balance is low.', required: false },
  webhooks: { summary: 'A webhook endpoint was disabled because it failed.', required: false },
} as const satisfies Readonly<Record<string, { readonly summary: string; readonly required: boolean }>>

export type NotificationKind = keyof typeof notificationKinds

export const NOTIFICATION_KINDS = Object.keys(notificationKinds) as readonly NotificationKind[]
