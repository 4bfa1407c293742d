import { runAlone } from '../../db/alone.ts'
import type { Session } from '../../db/database.ts'
import type { Instant } from '../../lib/clock.ts'
import { assert } from '../../lib/errors.ts'
import { DAY_MS, MINUTE_MS } from '../../lib/period.ts'
import { requireGateway, type BillingContext } from '../context.ts'
import { ACCOUNT_LISTS, type AccountList, type AccountPage, type ListedObject } from '../gateway/account-lists.ts'
import { isMissingAtStripe } from '../gateway/errors.ts'
import type { StripeObject } from '../gateway/wire.ts'
import { ORGANIZATION_METADATA, linkCustomer } from '../organizations.ts'
import { RECONCILE_EVERY_MS } from './drift-store.ts'
import { compareObject } from './drift.ts'
import {
  findCounterparts,
  findRunning,
  finishReconciliation,
  hasCustomers,
  listWithoutCustomer,
  listWithUnseenInvoices,
  lockRunning,
  markCompared,
  markInvoicesSeen,
  readHistory,
  saveProgress,
  startReconciliation,
  suspect,
  suspectUnseenCustomers,
  type Reconciliation,
} from './reconcile-store.ts'

/** Pages that one server reads before another may go on. */
const PAGES_AT_ONCE = 25
/** What is younger is left to its webhooks, and to the next time: it would be found to differ only because it is still on its way. */
const SETTLING_MS = 10 * MINUTE_MS
/** Invoices, charges and refunds are listed again for so long after they were made; what is not settled, at any age. */
const RECENT_MS = 35 * DAY_MS

/**
 * Goes on with the comparison of the whole account, or begins the next one when its day has come: a page of a hundred at a time, one
 * call under way, each page and how far it is committed together. Who differs is only noted: `reconcile.ts` refetches them. Answers how
 * many pages were read; 0 when nothing is due, or another server is at it.
 */
export async function comparePages(context: BillingContext, signal?: AbortSignal): Promise<number> {
  return (
    (await context.db.session((session) => runAlone(session, 'reconciliation', () => readPages(context, session, signal)))) ?? 0
  )
}

async function readPages(context: BillingContext, session: Session, signal: AbortSignal | undefined): Promise<number> {
  let pages = 0
  while (pages < PAGES_AT_ONCE) {
    if (signal?.aborted === true) break
    const running = (await findRunning(session)) ?? (await startDue(context, session))
    if (running === null) break
    await comparePage(context, session, running)
    pages += 1
  }
  return pages
}

async function startDue(context: BillingContext, session: Session): Promise<Reconciliation | null> {
  const { started } = await readHistory(session)
  const isDue = started === null || context.clock.now().getTime() - started.getTime() >= RECONCILE_EVERY_MS
  if (!isDue || !(await hasCustomers(session))) return null
  await beginReconciliation(session, context.clock.now())
  return findRunning(session)
}

/** Compares everything from the beginning, whatever is under way. */
export async function beginReconciliation(db: Pick<Session, 'query'>, now: Instant): Promise<void> {
  const { finished } = await readHistory(db)
  const recentSince = finished === null ? null : new Date(finished.getTime() - RECENT_MS)
  await startReconciliation(db, { startedAt: now, recentSince, list: ACCOUNT_LISTS[0] })
}

/** Which part of a list is read; null leaves it out. */
function spanOf(list: AccountList, { startedAt, recentSince }: Reconciliation): { since: Instant | null; until: Instant } | null {
  const settled = new Date(startedAt.getTime() - SETTLING_MS)
  switch (list) {
    case 'invoices':
    case 'charges':
    case 'refunds':
      return { since: recentSince, until: settled }
    case 'draft_invoices':
    case 'open_invoices':
    case 'uncollectible_invoices':
      // Those that are not among the recent ones.
      return recentSince === null ? null : { since: null, until: recentSince }
    case 'subscriptions':
    case 'disputes':
    case 'customers':
      return { since: null, until: settled }
  }
}

async function comparePage(context: BillingContext, session: Session, running: Reconciliation): Promise<void> {
  const page = await fetchPage(context, running)
  await session.transaction(async (tx) => {
    const now = context.clock.now()
    // An operator may have begun it anew while the page was on its way: then it was read for nothing.
    if (!(await lockRunning(tx, running))) return
    const differing = await findDiffering(tx, page)
    await suspect(tx, differing, now)
    if (running.list === 'customers') await compareCustomers(tx, running, page.objects, now)
    if (running.list.endsWith('invoices')) {
      const ids = page.objects.map(({ id }) => id)
      await markInvoicesSeen(tx, ids, running.startedAt)
    }
    const progress = { objects: page.objects.length, suspected: differing.length }
    if (page.hasMore && page.last !== null) {
      await saveProgress(tx, running, { ...progress, list: running.list, after: page.last }, now)
      return
    }
    const next = nextListOf(running)
    const suspected = progress.suspected + (await suspectUnseen(tx, running, next, now))
    await saveProgress(tx, running, { ...progress, suspected, list: next ?? running.list, after: null }, now)
    if (next === null) await finishReconciliation(tx, running.id, now)
  })
}

function nextListOf(running: Reconciliation): AccountList | null {
  const after = ACCOUNT_LISTS.slice(ACCOUNT_LISTS.indexOf(running.list) + 1)
  return after.find((list) => spanOf(list, running) !== null) ?? null
}

async function fetchPage(context: BillingContext, running: Reconciliation): Promise<AccountPage> {
  const { backgroundReads } = requireGateway(context)
  const span = spanOf(running.list, running)
  assert(span, 'a list that has nothing to be read is never begun')
  try {
    return await backgroundReads.listPage(running.list, { ...span, startingAfter: running.afterId })
  } catch (error) {
    if (running.afterCreatedAt === null || !isMissingAtStripe(error)) throw error
    // The object after which to go on was deleted: its time says where it stood.
    return backgroundReads.listPage(running.list, { ...span, until: running.afterCreatedAt, startingAfter: null })
  }
}

type Tx = Pick<Session, 'query'>

/** Whose objects of a page are not as the mirror has them. */
async function findDiffering(tx: Tx, { objects }: AccountPage): Promise<string[]> {
  const differing = new Set<string>()
  for (const objectType of new Set(objects.map((object) => object.objectType))) {
    const listed = objects.filter((object) => object.objectType === objectType)
    const byId = new Map(listed.map((object) => [object.id, object]))
    for (const { id, organizationId, data } of await findCounterparts(tx, objectType, listed)) {
      if (compareObject(data, byId.get(id)!).length > 0) differing.add(organizationId)
    }
  }
  return [...differing]
}

/** Notes whose customers were listed, and takes those up that name an organization which does not know of its customer yet. */
async function compareCustomers(
  tx: Tx,
  running: Reconciliation,
  customers: readonly ListedObject[],
  now: Instant,
): Promise<void> {
  const naming = new Map(customers.flatMap(({ id, data }) => (nameOf(data) === null ? [] : [[nameOf(data)!, id]])))
  const linked: string[] = []
  for (const organizationId of await listWithoutCustomer(tx, [...naming.keys()])) {
    if (await linkCustomer(tx, { organizationId, customerId: naming.get(organizationId)! })) linked.push(organizationId)
  }
  await suspect(tx, linked, now)
  const known = await findCounterparts(tx, 'customer', customers)
  await markCompared(
    tx,
    known.map(({ organizationId }) => organizationId),
    running.startedAt,
  )
}

/** The organization that a customer names in its metadata. */
function nameOf({ metadata }: StripeObject): string | null {
  const named = (metadata as Readonly<Record<string, string>> | null)?.[ORGANIZATION_METADATA]
  return named ?? null
}

/** What the lists should have shown and did not: deleted drafts after the invoices, deleted customers at the end. */
async function suspectUnseen(tx: Tx, running: Reconciliation, next: AccountList | null, now: Instant): Promise<number> {
  if (next === 'charges') {
    const until = new Date(running.startedAt.getTime() - SETTLING_MS)
    const organizationIds = await listWithUnseenInvoices(tx, { seenSince: running.startedAt, until })
    await suspect(tx, organizationIds, now)
    return organizationIds.length
  }
  return next === null ? suspectUnseenCustomers(tx, running.startedAt, now) : 0
}
