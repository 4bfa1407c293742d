import { percentageOf, sumQuantities } from './decimal.ts'
import { isAway, TollgateError } from './errors.ts'
import type { BalanceAnswer, UsageAnswer, UsageClient } from './usage.ts'

/** The statuses by which a refusal reaches the caller of a metered route. */
export type RefusalStatus = 402 | 403 | 429

export type QuotaRefusal = { readonly status: RefusalStatus; readonly body: Record<string, unknown> }

/** Where a refused caller is sent to buy more (EM-4). */
export const UPGRADE_URL = '/api/v1/billing/upgrade'

/** Refusals that time or more money ends. */
const LIMITS: ReadonlySet<string> = new Set(['quota_exceeded', 'spend_limit_reached', 'rate_limited'])

/**
 * The status of a refusal: 429 when the quota is used up (EM-4), the limit of spending is reached or calls come too fast, 403 when the organization is suspended or its plan does
 * not include the meter (EM-7), and the host's own choice where it names one (402 for MR-13, 403 for CB-5).
 */
export function statusOfRefusal(code: string | undefined, chosen: Readonly<Record<string, RefusalStatus>> = {}): RefusalStatus {
  return chosen[code ?? ''] ?? (LIMITS.has(code ?? '') ? 429 : 403)
}

/** The answer to a refused call, with the fields of EM-4, the server's own sentence and the numbers that the gate itself used. */
export async function describeRefusal(
  client: UsageClient,
  answer: UsageAnswer,
  statuses?: Readonly<Record<string, RefusalStatus>>,
): Promise<QuotaRefusal> {
  const usage = answer.balance === null ? null : await readUsage(client, answer, answer.balance)
  return {
    status: statusOfRefusal(answer.code, statuses),
    body: { error: answer.code, message: answer.reason ?? 'This call is not permitted.', usage, upgrade_url: UPGRADE_URL },
  }
}

/**
 * The fields of EM-4: those of EM-8 that say how much, of the balance that refused. Where they cannot be read (a key without the scope `read`),
 * those that the refusal has itself, which stands all the same.
 */
async function readUsage(client: UsageClient, answer: UsageAnswer, { balance, amount }: BalanceAnswer) {
  try {
    const {
      quota_exceeded: _exceeded,
      status: _status,
      in_trial: _trial,
      trial_end_date: _end,
      ...usage
    } = await client.usage(balance)
    return usage
  } catch (error) {
    if (!isAway(error) && !(error instanceof TollgateError)) throw error
    const { total_credits_used: used, quota_remaining } = answer
    return { credits_used: used, monthly_limit: amount, quota_remaining, usage_percentage: percentageOf(used, amount) }
  }
}

/**
 * The headers of a metered answer (EM-5): used, remaining and total of the period, and a warning under a tenth left. What is held for
 * a call that is under way counts as used, as it is missing from what remains.
 */
export function creditHeaders(balance: BalanceAnswer): Record<string, string> {
  const headers: Record<string, string> = {
    'X-Credits-Used': sumQuantities([balance.used, balance.overage, balance.reserved]),
    'X-Credits-Remaining': String(balance.remaining ?? 'unlimited'),
    'X-Credits-Total': String(balance.amount ?? 'unlimited'),
  }
  if (isNearlyUsedUp(balance)) {
    headers['X-Quota-Warning'] = `${balance.remaining} of ${balance.amount} left in this period`
  }
  return headers
}

/** Whether less than a tenth of the included amount is left. A warning only: nothing is decided by it. */
function isNearlyUsedUp({ amount, remaining }: BalanceAnswer): boolean {
  return amount !== null && remaining !== null && Number(remaining) * 10 < Number(amount)
}
