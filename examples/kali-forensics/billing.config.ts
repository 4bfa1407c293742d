import { defineBilling, fromVariables } from '@tollgate/server/catalog'

// KF-1: six rates in cents, each set by a variable. The base fee is the plan's price; everything else is billed from the first one
// on, since nothing of it is included. Agents and users are levels: the most of a month is what the month costs, and what was told
// last stands until another is told.
export default fromVariables((variables) => {
  const rate = (name: string, cents: number) => variables[`BILLING_RATE_${name}`] ?? String(cents)
  const baseFee = Number(rate('PLATFORM_BASE', 10_000))
  const each = (name: string, cents: number) =>
    ({ amount: 0, limit: 'soft', overage: { model: 'per_unit', unitAmountMinor: rate(name, cents) } }) as const
  return defineBilling({
    currency: variables['BILLING_CURRENCY'] ?? 'usd',
    meters: {
      agent: { name: 'Agents', unit: 'agent', aggregation: 'max' },
      user: { name: 'Users', unit: 'user', aggregation: 'max' },
      case: { name: 'Cases', unit: 'case' },
      event_ingestion: { name: 'Ingested events', unit: 'event' },
      api_call: { name: 'API calls', unit: 'call' },
      // The base fee is charged with the subscription; a report of it is counted and shown, and costs nothing more.
      platform_base: { name: 'Platform', unit: 'month', aggregation: 'max' },
    },
    plans: {
      none: { name: 'No plan', allowances: {} },
      standard: {
        name: 'Standard',
        prices: { monthly: { amountMinor: baseFee }, yearly: { amountMinor: 12 * baseFee } },
        allowances: {
          agent: each('PER_AGENT_MONTHLY', 5000),
          user: each('PER_USER_MONTHLY', 2500),
          case: each('PER_CASE', 1000),
          event_ingestion: each('PER_EVENT_INGESTION', 1),
          api_call: {
            amount: 0,
            limit: 'soft',
            overage: { model: 'package', size: 1000, amountMinor: Number(rate('API_CALL', 10)) },
          },
          platform_base: { amount: 'unlimited' },
        },
      },
    },
    defaultPlan: 'none',
  })
})
