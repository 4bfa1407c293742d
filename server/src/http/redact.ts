import { maskCardNumbers } from '../lib/card-data.ts'

/** What never reaches a log, wherever it stands: our keys and tokens, Stripe's keys, secrets and client secrets, passwords in addresses. */
const SECRETS = [
  /\btg[ci]?_[0-9A-Za-z]{43}\b/g,
  /\b(?:sk|rk)_(?:test|live)_\w+/g,
  /\bwhsec_\w+/g,
  /\b(?:pi|seti|cs)_\w+_secret_\w+/g,
  /(?<=\bBearer )[^\s"\\]+/gi,
  /(?<=:\/\/[^:@/\s"]*:)[^@/\s"]+(?=@)/g,
]

/** The text with every secret replaced by `[redacted]`, and card numbers too; `known` are secrets of no particular shape, such as the operator key. */
export function redact(text: string, known: readonly string[] = []): string {
  let result = maskCardNumbers(text)
  for (const pattern of SECRETS) result = result.replace(pattern, '[redacted]')
  for (const secret of known) result = result.replaceAll(secret, '[redacted]')
  return result
}
