import type { Sandbox } from '../../sandbox/src/index.ts'
import type { Db } from '../src/db/database.ts'
import { CUSTOMER_TABLES } from './seed-customers.ts'

/** A paying organization that was made by the program itself, to be multiplied. */
export type Template = { readonly organizationId: string; readonly customerId: string }

export type Multiplying = { readonly db: Db; readonly sandbox: Sandbox; readonly template: Template; readonly copies: number }

/** Kinds of the sandbox that belong to a customer, as far as lists and refetches show them. */
const KINDS = [
  'customer',
  'payment_method',
  'subscription',
  'payment_intent',
  'charge',
  'invoice',
  'invoice_payment',
  'balance_transaction',
] as const

/** Tables that say the same about an organization; the referenced ones first. */
const TABLES = [...CUSTOMER_TABLES, 'stripe_payment_methods'] as const

/** Copies that are put into the sandbox at once. */
const BATCH = 5_000

/**
 * Makes copies of an organization, at Stripe's sandbox and in the mirror alike, so that both agree: `copies` more of each of its objects,
 * with `_1`, `_2` … behind every id. Neither goes through the API, so 100,000 take about a minute.
 */
export async function multiply({ db, sandbox, template, copies }: Multiplying): Promise<void> {
  const own = objectsOf(sandbox, template.customerId)
  const ids = new Set([template.organizationId, ...idsIn(JSON.stringify(own))])
  // A price or a product is everybody's.
  const shared = new Set([...sandbox.all('price'), ...sandbox.all('product')].map(({ id }) => id))
  const renamed = [...ids].filter((id) => !shared.has(id))
  copyInSandbox(sandbox, own, { renamed, copies })
  for (const table of TABLES) await copyTable(db, table, { renamed, copies, organizationId: template.organizationId })
  await db.query(
    `insert into stripe_syncs (organization_id, synced_at) select id, created_at from organizations on conflict do nothing`,
  )
  for (const table of [...TABLES, 'stripe_syncs']) await db.query(`analyze ${table}`)
}

type Objects = Readonly<Record<string, readonly object[]>>

function objectsOf(sandbox: Sandbox, customerId: string): Objects {
  const belongs = (object: object) => JSON.stringify(object).includes(customerId)
  const invoices = new Set(
    sandbox
      .all('invoice')
      .filter(belongs)
      .map(({ id }) => id),
  )
  return Object.fromEntries(
    KINDS.map((kind) => [
      kind,
      kind === 'invoice_payment'
        ? sandbox.all(kind).filter(({ invoice }) => typeof invoice === 'string' && invoices.has(invoice))
        : sandbox.all(kind).filter(belongs),
    ]),
  )
}

/** Ids of Stripe's objects: `cus_…`, `sub_…`, `si_…`. */
function idsIn(text: string): readonly string[] {
  return text.match(/\b(?:cus|pm|sub|si|pi|ch|in|il|inpay|txn)_[A-Za-z0-9]+/g) ?? []
}

type Copying = { readonly renamed: readonly string[]; readonly copies: number }

function copyInSandbox(sandbox: Sandbox, own: Objects, { renamed, copies }: Copying): void {
  const ids = new RegExp(`(${renamed.join('|')})`, 'g')
  const texts = Object.entries(own).map(([kind, objects]) => [kind, objects.map((object) => JSON.stringify(object))] as const)
  for (let from = 1; from <= copies; from += BATCH) {
    const numbers = Array.from({ length: Math.min(BATCH, copies - from + 1) }, (_, index) => from + index)
    const copied = texts.map(([kind, objects]) => [
      kind,
      numbers.flatMap((number) => objects.map((text) => JSON.parse(text.replaceAll(ids, `$1_${number}`)) as object)),
    ])
    sandbox.importFixture({ format: 'stripe-sandbox', version: 1, objects: Object.fromEntries(copied) as object })
  }
}

async function copyTable(
  db: Db,
  table: (typeof TABLES)[number],
  { renamed, copies, organizationId }: Copying & { organizationId: string },
): Promise<void> {
  const key = table === 'organizations' ? 'id' : 'organization_id'
  // One replacement in another: for these few words many times faster than a regular expression.
  const copy = renamed.reduce((text, id) => `replace(${text}, '${id}', '${id}_' || n)`, 'to_jsonb(original)::text')
  await db.query(
    `insert into ${table} select (jsonb_populate_record(null::${table}, copied.row)).*
     from ${table} original, generate_series(1, $1::int) n, lateral (select (${copy})::jsonb as row offset 0) copied
     where original.${key} = $2`,
    [copies, organizationId],
  )
}
