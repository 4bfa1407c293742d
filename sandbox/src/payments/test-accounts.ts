/**
 * Stripe's test bank accounts as one table. A debit of one is under way until its bank answers.
 * Source: https://docs.stripe.com/payments/ach-direct-debit/set-up-payment#test-account-numbers
 */

/** Why a bank refuses a debit: the charge's and the intent's error. */
export interface DebitFailure {
  readonly code: 'account_closed' | 'no_account' | 'insufficient_funds' | 'debit_not_authorized'
  readonly message: string
}

export interface TestBankAccount {
  /** What is stored with a payment method, and the tail of its `pm_usBankAccount_…` id. */
  readonly key: string
  readonly last4: string
  /** What its bank answers to a debit; `nothing` leaves it under way for good. */
  readonly answer: 'paid' | 'nothing' | DebitFailure
}

export const testRoutingNumber = '110000000'

const refuses = (code: DebitFailure['code'], message: string): DebitFailure => ({ code, message })

const testAccounts: readonly TestBankAccount[] = [
  { key: 'success', last4: '6789', answer: 'paid' },
  { key: 'processing', last4: '0009', answer: 'nothing' },
  { key: 'accountClosed', last4: '1113', answer: refuses('account_closed', "The customer's bank account has been closed.") },
  {
    key: 'noAccount',
    last4: '1116',
    answer: refuses('no_account', "The customer's bank account could not be located."),
  },
  {
    key: 'insufficientFunds',
    last4: '2227',
    answer: refuses('insufficient_funds', "The customer's account has insufficient funds to cover this payment."),
  },
  {
    key: 'debitNotAuthorized',
    last4: '3335',
    answer: refuses('debit_not_authorized', 'The customer has notified their bank that this payment was unauthorized.'),
  },
]

const byKey = new Map(testAccounts.map((account) => [account.key, account]))

/** Finds a test bank account by `pm_usBankAccount_…`. */
export function findTestAccountById(id: string): TestBankAccount | undefined {
  const key = /^pm_usBankAccount_(.+)$/.exec(id)?.[1]
  return key === undefined ? undefined : findTestAccountByKey(key)
}

/** Finds a test bank account by the key that a payment method keeps. */
export function findTestAccountByKey(key: string): TestBankAccount | undefined {
  return byKey.get(key)
}
