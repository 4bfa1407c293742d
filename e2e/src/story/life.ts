import type { Answer } from '../http.ts'
import { expectBooksToAgree } from './books.ts'
import type { Customer } from './place.ts'

/** What happens to a customer, over HTTP, with its own count of keys; every step says when it went wrong. */
export type Life = ReturnType<typeof lifeOf>

const VISA = { payment_method_id: 'pm_card_visa' }

export async function beginLife(customer: Customer): Promise<Life> {
  const { body } = await customer.operator.get(`/api/v1/organizations/${customer.id}`)
  return lifeOf(customer, (body['test_clock'] as { now: string }).now)
}

function lifeOf(customer: Customer, began: string) {
  const { id, own, operator } = customer
  let now = began
  let keys = 0

  async function must(answer: Promise<Answer>): Promise<Answer> {
    const { status, body } = await answer
    if (status >= 300) throw new Error(`${status}: ${JSON.stringify(body)}`)
    return answer
  }

  const life = {
    /** The customer's time. */
    now: () => now,
    /** Some time ago. */
    ago: (days: number) => new Date(Date.parse(now) - days * 86_400_000).toISOString(),

    async use(verb: 'track' | 'consume', meter: string, quantity: number, over: { key?: string; occurred_at?: string } = {}) {
      const { key = `${id}-${(keys += 1)}`, ...rest } = over
      return must(own.post(`/api/v1/usage/${verb}`, { meter, quantity, idempotency_key: key, ...rest }))
    },
    correct: (corrects: string, change: { quantity: number } | { retract: true }) =>
      own.post('/api/v1/usage/corrections', { corrects, ...change, idempotency_key: `${id}-${(keys += 1)}`, reason: 'mistaken' }),
    async hold(meter: string, quantity: number): Promise<string | null> {
      const body = { meter, quantity, idempotency_key: `${id}-${(keys += 1)}`, expires_in_seconds: 3600 }
      const { body: held } = await must(own.post('/api/v1/usage/reservations', body))
      return typeof held['reservation_id'] === 'string' ? held['reservation_id'] : null
    },
    settle: (reservation: string, quantity: number) => own.post(`/api/v1/usage/reservations/${reservation}/settle`, { quantity }),
    release: (reservation: string) => own.post(`/api/v1/usage/reservations/${reservation}/release`),

    subscribe: (tier: string, more: object = VISA) => own.post('/api/v1/billing/subscribe', { tier, ...more }),
    change: (body: object) => own.post('/api/v1/billing/upgrade', body),
    cancel: (immediate: boolean) => own.post('/api/v1/billing/cancel', { immediate }),
    card: (name: string) => own.post('/api/v1/billing/payment-methods', { payment_method_id: name }),
    topUp: (name: string) => own.post('/api/v1/billing/top-ups', { top_up: name, idempotency_key: `${id}-${(keys += 1)}` }),
    promote: (balance: string, amount: number, days: number) =>
      must(
        operator.post('/api/v1/grants', {
          organization_id: id,
          balance,
          amount,
          kind: 'promotion',
          expires_at: new Date(Date.parse(now) + days * 86_400_000).toISOString(),
        }),
      ),
    async payOpenInvoices() {
      const { body } = await own.get('/api/v1/billing/invoices?limit=20')
      const open = (body as unknown as { id: string; status: string }[]).filter(({ status }) => status === 'open')
      for (const invoice of open) await own.post(`/api/v1/billing/invoices/${invoice.id}/pay`)
    },

    async wait(by: string) {
      const { body } = await must(operator.post(`/api/v1/organizations/${id}/clock/advance`, { by }))
      now = String(body['now'])
    },
    /** A minute later everything that was used has been reported, and all books agree. */
    async settleBooks() {
      await life.wait('1m')
      await expectBooksToAgree(customer, { began, now })
    },
  }
  return life
}
