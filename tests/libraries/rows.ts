import type { StoredName } from '../../sandbox/src/index.ts'
import type { TestSandbox } from '../../sandbox/test/contract.ts'
import type { SyncEngine } from './sync-engine.ts'

type Wire = Readonly<Record<string, unknown>>

/** The tables that hold one row for each object of a kind, and where the sandbox shows these objects. */
const TABLES = {
  charges: { kind: 'charge', path: '/v1/charges/' },
  checkout_sessions: { kind: 'checkout.session', path: '/v1/checkout/sessions/' },
  credit_notes: { kind: 'credit_note', path: '/v1/credit_notes/' },
  customers: { kind: 'customer', path: '/v1/customers/' },
  disputes: { kind: 'dispute', path: '/v1/disputes/' },
  features: { kind: 'entitlements.feature', path: '/v1/entitlements/features/' },
  invoice_payments: { kind: 'invoice_payment', path: '/v1/invoice_payments/' },
  invoices: { kind: 'invoice', path: '/v1/invoices/' },
  payment_intents: { kind: 'payment_intent', path: '/v1/payment_intents/' },
  payment_methods: { kind: 'payment_method', path: '/v1/payment_methods/' },
  prices: { kind: 'price', path: '/v1/prices/' },
  products: { kind: 'product', path: '/v1/products/' },
  refunds: { kind: 'refund', path: '/v1/refunds/' },
  setup_intents: { kind: 'setup_intent', path: '/v1/setup_intents/' },
  subscription_schedules: { kind: 'subscription_schedule', path: '/v1/subscription_schedules/' },
  subscriptions: { kind: 'subscription', path: '/v1/subscriptions/' },
  tax_ids: { kind: 'tax_id', path: '/v1/tax_ids/' },
} as const satisfies Readonly<Record<string, { readonly kind: StoredName; readonly path: string }>>

/** A table that the sandbox has objects for. The last four hold parts or other faces of other objects. */
export type Table = keyof typeof TABLES | 'plans' | 'subscription_items' | 'checkout_session_line_items' | 'active_entitlements'

/** What the engine notes for itself; and a number of the customer that grows without an event, on Stripe too. */
const LEFT_OUT = ['updated_at', 'last_synced_at', 'next_invoice_sequence']

/** Every object that belongs into a table, as the sandbox's API shows it; lists that come in part are completed, as the engine does. */
export async function objectsOf(test: TestSandbox, table: Table): Promise<Wire[]> {
  if (table === 'subscription_items') return itemsOf(await objectsOf(test, 'subscriptions'))
  if (table === 'checkout_session_line_items') return lineItemsOf(test)
  if (table === 'plans') return plansOf(test)
  if (table === 'active_entitlements') return entitlementsOf(test)
  const { kind, path } = TABLES[table]
  const ids = test.sandbox.all(kind).map(({ id }) => id)
  return Promise.all(ids.map(async (id) => completed(test, await get(test, path + id))))
}

function itemsOf(subscriptions: readonly Wire[]): Wire[] {
  const items = subscriptions.flatMap((subscription) => (subscription['items'] as { data: Wire[] }).data)
  return items.map((item) => ({ ...item, price: idOf(item['price']) }))
}

async function lineItemsOf(test: TestSandbox): Promise<Wire[]> {
  const lists = test.sandbox.all('checkout.session').map(async ({ id }) => {
    const items = await list(test, `/v1/checkout/sessions/${id}/line_items`)
    return items.map((item): Wire => ({ ...item, price: idOf(item['price']), checkout_session: id }))
  })
  return (await Promise.all(lists)).flat()
}

async function plansOf(test: TestSandbox): Promise<Wire[]> {
  const recurring = test.sandbox.all('price').filter((price) => price.recurring !== null)
  return Promise.all(recurring.map(({ id }) => get(test, `/v1/plans/${id}`)))
}

async function entitlementsOf(test: TestSandbox): Promise<Wire[]> {
  const lists = test.sandbox.all('customer').map(async ({ id: customer }) => {
    const entitlements = await list(test, `/v1/entitlements/active_entitlements?customer=${customer}`)
    return entitlements.map((entitlement): Wire => ({ ...entitlement, customer, feature: idOf(entitlement['feature']) }))
  })
  return (await Promise.all(lists)).flat()
}

function idOf(reference: unknown): unknown {
  return typeof reference === 'object' && reference !== null ? (reference as Wire)['id'] : reference
}

async function get(test: TestSandbox, path: string): Promise<Wire> {
  const response = await test.fetch(path, { headers: { authorization: 'Bearer sk_test_rows' } })
  return (await response.json()) as Wire
}

async function list(test: TestSandbox, path: string): Promise<Wire[]> {
  const page = (await get(test, `${path}${path.includes('?') ? '&' : '?'}limit=100`)) as { data: Wire[]; has_more: boolean }
  if (page.has_more) throw new Error(`More than a page of ${path}.`)
  return page.data
}

async function completed(test: TestSandbox, object: Wire): Promise<Wire> {
  for (const name of ['lines', 'items']) {
    const part = object[name] as { has_more?: boolean; url: string } | undefined
    if (part?.has_more === true) return { ...object, [name]: { ...part, data: await list(test, part.url), has_more: false } }
  }
  return object
}

/** The rows of a table without the columns that are left out. */
async function rowsOf(engine: SyncEngine, table: Table): Promise<Wire[]> {
  const rows = await engine.rows(table)
  return rows.map((row) => Object.fromEntries(Object.entries(row).filter(([column]) => !LEFT_OUT.includes(column))))
}

/** The row that an object makes: each column is the field of that name, or empty; nothing is `deleted` unless it says so. */
function rowLike(row: Wire, object: Wire): Wire {
  const fields: Wire = { deleted: false, ...object }
  return Object.fromEntries(Object.keys(row).map((column) => [column, likeColumn(column, row[column], fields[column] ?? null)]))
}

/**
 * A field in the form in which PostgreSQL answers it: big integers as text, objects in text columns as JSON. A decimal is an object in the
 * client's version 23, so it is JSON too.
 */
function likeColumn(column: string, stored: unknown, value: unknown): unknown {
  if (column.endsWith('_decimal')) return value === null ? null : JSON.stringify(value)
  if (typeof stored === 'string' && typeof value === 'number') return String(value)
  if (typeof stored === 'string' && typeof value === 'object' && value !== null) return JSON.stringify(value)
  return value
}

/** What differs between a table and what the sandbox holds, in words. Rows that are marked as deleted are left out. */
export async function differences(
  { test, engine }: { test: TestSandbox; engine: SyncEngine },
  table: Table,
  only: (object: Wire) => boolean = () => true,
): Promise<string[]> {
  const objects = new Map((await objectsOf(test, table)).filter(only).map((object) => [object['id'], object]))
  const rows = new Map((await rowsOf(engine, table)).filter((row) => row['deleted'] !== true).map((row) => [row['id'], row]))
  if (objects.size === 0) return [`the sandbox has nothing for ${table}`]
  const lost = [...objects.keys()].filter((id) => !rows.has(id)).map((id) => `${table} lacks ${String(id)}`)
  const strange = [...rows.keys()].filter((id) => !objects.has(id)).map((id) => `${table} has ${String(id)} too much`)
  const unlike = [...rows].flatMap(([id, row]) => {
    const object = objects.get(id)
    if (object === undefined) return []
    const expected = rowLike(row, object)
    return Object.keys(row)
      .filter((column) => canonical(row[column]) !== canonical(expected[column]))
      .map((column) => `${table}.${column} of ${String(id)} is ${canonical(row[column])}, not ${canonical(expected[column])}`)
  })
  return [...lost, ...strange, ...unlike]
}

/** JSON with sorted keys: `jsonb` does not keep their order. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([one], [other]) => (one < other ? -1 : 1)))
      : part,
  )
}
