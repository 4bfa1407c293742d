import { openDatabase } from '../../server/src/db/database.ts'
import { seedCustomers } from '../../server/test/seed-customers.ts'
import { startServer, type ServerProcess } from './processes.ts'
import { OPERATOR_KEY, type World } from './world.ts'

/** One request of an operator, at 1,000 organizations and at 100,000, by the slowest of twenty. */
export type ScaleRow = {
  readonly path: string
  readonly p95Ms: number
  readonly referenceP95Ms: number
  readonly ratio: number
  readonly holds: boolean
}

const LARGE = { organizations: 100_000, invoicesEach: 10 }
const SMALL = { organizations: 1_000, invoicesEach: 10 }
const WANTED_MS = 50
const WANTED_RATIO = 2
/** Below this, a ratio says more about the machine than about the lists. */
const NOISE_MS = 2

const PATHS = [
  '/api/v1/admin/billing/stats',
  '/api/v1/admin/organizations',
  '/api/v1/admin/organizations?sort=name',
  '/api/v1/admin/organizations?status=past_due',
  '/api/v1/admin/organizations?plan=pro&status=active',
  '/api/v1/admin/organizations?delinquent=true',
  '/api/v1/admin/organizations?has_override=true',
  '/api/v1/admin/organizations?currency=eur',
  '/api/v1/admin/organizations?search=owner-77',
  '/api/v1/admin/organizations?search=seed_',
  '/api/v1/admin/organizations?search=customer%20500',
  '/api/v1/admin/organizations?search=in_seed_00500_3',
  '/api/v1/admin/billing/customers?limit=100',
  '/api/v1/admin/billing/subscriptions?limit=100',
  '/api/v1/admin/billing/subscriptions?status=active&limit=100',
  '/api/v1/admin/billing/subscriptions?status=canceled&plan=pro&limit=100',
  '/api/v1/admin/billing/subscriptions?search=sub_seed_0050',
  '/api/v1/admin/billing/recent-charges?limit=20',
  '/api/v1/billing/admin/invoices',
  '/api/v1/billing/admin/invoices?status=open',
  '/api/v1/billing/admin/invoices?status=open&currency=eur&sort=created',
  '/api/v1/billing/admin/invoices?search=SEED-00500',
  '/api/v1/billing/admin/invoices?search=owner-500',
  '/api/v1/billing/admin/invoices?created_from=2025-02-01&created_to=2025-02-02',
] as const

/** Seeds two databases, asks both in turns over HTTP, and prints the 95th percentile of each. */
export async function runScale(world: World, { requests, print }: { requests: number; print: (line: string) => void }) {
  const small = await openScaled(world, 'scale_small', SMALL)
  try {
    const large = await openScaled(world, 'scale_large', LARGE)
    try {
      const rows: ScaleRow[] = []
      for (const path of PATHS) rows.push(await measure(path, { small, large, requests, print }))
      return rows
    } finally {
      await large.stop()
    }
  } finally {
    await small.stop()
  }
}

async function openScaled(world: World, name: string, size: typeof LARGE): Promise<ServerProcess> {
  await world.db.query(`create database ${name}`)
  const url = new URL(world.databaseUrl)
  url.pathname = `/${name}`
  const server = await startServer('./tollgate-server.ts', [url.href, OPERATOR_KEY])
  await seed(url.href, size).catch(async (error: unknown) => {
    await server.stop()
    throw error
  })
  return server
}

async function seed(connectionString: string, size: typeof LARGE): Promise<void> {
  const db = openDatabase({ connectionString })
  try {
    const { rows } = await db.query<{ version: number }>('select max(version) as version from catalog_versions')
    await seedCustomers(db, { ...size, catalogVersion: rows[0]!.version })
    await db.query('vacuum analyze')
    await db.query('checkpoint')
  } finally {
    await db.close()
  }
}

type Measuring = {
  readonly small: ServerProcess
  readonly large: ServerProcess
  readonly requests: number
  readonly print: (line: string) => void
}

async function measure(path: string, { small, large, requests, print }: Measuring): Promise<ScaleRow> {
  const [own, reference]: [number[], number[]] = [[], []]
  // A tenth more, which warms up and does not count.
  for (let index = -Math.ceil(requests / 10); index < requests; index += 1) {
    const [ownMs, referenceMs] = [await timeOf(large, path), await timeOf(small, path)]
    if (index < 0) continue
    own.push(ownMs)
    reference.push(referenceMs)
  }
  const [p95Ms, referenceP95Ms] = [p95Of(own), p95Of(reference)]
  const ratio = Number((p95Ms / referenceP95Ms).toFixed(2))
  const holds = p95Ms <= WANTED_MS && (ratio <= WANTED_RATIO || p95Ms - referenceP95Ms <= NOISE_MS)
  print(
    `${path.padEnd(82)}p95 ${p95Ms.toFixed(1).padStart(6)} ms   at 1,000 ${referenceP95Ms.toFixed(1).padStart(6)} ms   ratio ${ratio}${holds ? '' : '   ABOVE'}`,
  )
  return { path, p95Ms, referenceP95Ms, ratio, holds }
}

async function timeOf({ port }: ServerProcess, path: string): Promise<number> {
  const began = performance.now()
  const response = await fetch(`http://127.0.0.1:${port}${path}`, { headers: { 'x-api-key': OPERATOR_KEY } })
  const text = await response.text()
  const took = performance.now() - began
  if (!response.ok) throw new Error(`${path} answered ${response.status}: ${text}`)
  return took
}

function p95Of(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.ceil(values.length * 0.95) - 1]!
}
