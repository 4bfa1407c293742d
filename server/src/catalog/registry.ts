import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { ClientBase, Pool } from 'pg'
import type { Instant } from '../lib/clock.ts'
import type { AddOn, Catalog } from './catalog.ts'
import type { CatalogVariables } from './define.ts'
import { normalizeCatalog, normalizeNewCatalog } from './normalize.ts'
import { importWithOwnPackage } from './own-package.ts'
import { CatalogError } from './problems.ts'
import { catalogDefinitionSchema, type CatalogDefinition } from './schema.ts'

type Queryable = Pick<Pool | ClientBase, 'query'>

/** A catalog with the number under which it is stored. */
export type CatalogVersion = { readonly version: number; readonly catalog: Catalog }

/** The catalogs of this installation: the one that new customers get, and every earlier one that somebody still has. */
export type CatalogRegistry = {
  readonly current: CatalogVersion
  /** The catalog of a stored version; read once, then kept, since versions never change. */
  get(version: number): Promise<Catalog>
  /** An add-on as the present catalog declares it, else as the newest version that has it; undefined when none ever did. */
  addOn(key: string): Promise<AddOn | undefined>
  /** The present catalog where it has a plan, else the newest that has it; undefined when none ever did. */
  withPlan(key: string): Promise<Catalog | undefined>
}

/**
 * Imports the default export of a billing.config.ts: a definition, or a function that makes one from the environment.
 * @throws CatalogError when the file is not there, cannot be imported, exports nothing, or what it exports is no catalog
 */
export async function importCatalogDefinition(path: string, variables: CatalogVariables = {}): Promise<CatalogDefinition> {
  if (!existsSync(path)) {
    throw new CatalogError([`There is no ${path}: "tollgate init" writes a first one, and TOLLGATE_CATALOG names another.`])
  }
  const module = await importWithOwnPackage(pathToFileURL(resolve(path)).href).catch((error: unknown) => {
    throw cannotLoad(path, error)
  })
  if (module.default === undefined)
    throw new CatalogError([`${path} has no default export; write "export default defineBilling({ … })".`])
  const definition = isMaker(module.default) ? make(path, module.default, variables) : module.default
  normalizeNewCatalog(definition)
  return catalogDefinitionSchema.parse(definition)
}

type Maker = (variables: CatalogVariables) => unknown

function isMaker(exported: unknown): exported is Maker {
  return typeof exported === 'function'
}

function make(path: string, maker: Maker, variables: CatalogVariables): unknown {
  try {
    return maker(variables)
  } catch (error) {
    throw cannotLoad(path, error)
  }
}

function cannotLoad(path: string, error: unknown): CatalogError {
  return new CatalogError([`${path} cannot be loaded: ${error instanceof Error ? error.message : String(error)}.`])
}

/**
 * Stores a definition as a new version unless the same one is stored already, and answers its version.
 * Two servers that start at once get the same version: the digest is unique.
 */
export async function storeCatalogVersion(db: Queryable, definition: CatalogDefinition, now: Instant): Promise<CatalogVersion> {
  const catalog = normalizeNewCatalog(definition)
  const content = canonicalJson(definition)
  const digest = createHash('sha256').update(content).digest('hex')
  await db.query(
    'insert into catalog_versions (digest, content, created_at) values ($1, $2, $3) on conflict (digest) do nothing',
    [digest, content, now],
  )
  const found = await db.query<{ version: number }>('select version from catalog_versions where digest = $1', [digest])
  return { version: found.rows[0]!.version, catalog }
}

/** A registry whose `current` is the given version; other versions are read from the database when first asked for. */
export function createCatalogRegistry(db: Queryable, current: CatalogVersion): CatalogRegistry {
  const catalogs = new Map<number, Promise<Catalog>>([[current.version, Promise.resolve(current.catalog)]])
  const addOns = new Map<string, AddOn>(current.catalog.addOns)
  const get = (version: number): Promise<Catalog> => {
    const known = catalogs.get(version)
    if (known) return known
    const reading = readCatalogVersion(db, version)
    catalogs.set(version, reading)
    // A failed read is not kept: the next caller asks the database again.
    reading.catch(() => catalogs.delete(version))
    return reading
  }
  return {
    current,
    get,
    async addOn(key) {
      const known = addOns.get(key)
      if (known !== undefined) return known
      const version = await newestVersionWith(db, { addOn: key })
      const found = version === null ? undefined : (await get(version)).addOns.get(key)
      if (found !== undefined) addOns.set(key, found)
      return found
    },
    async withPlan(key) {
      if (current.catalog.plans.has(key)) return current.catalog
      const version = await newestVersionWith(db, { plan: key })
      return version === null ? undefined : get(version)
    },
  }
}

async function newestVersionWith(
  db: Queryable,
  { plan, addOn }: { readonly plan?: string; readonly addOn?: string },
): Promise<number | null> {
  const found = await db.query<{ version: number | null }>(
    "select max(version) as version from catalog_versions where content -> 'plans' ? $1 or content -> 'addOns' ? $2",
    [plan ?? null, addOn ?? null],
  )
  return found.rows[0]!.version
}

async function readCatalogVersion(db: Queryable, version: number): Promise<Catalog> {
  const found = await db.query<{ content: unknown }>('select content from catalog_versions where version = $1', [version])
  const row = found.rows[0]
  if (!row) throw new Error(`Catalog version ${version} is not stored.`)
  return normalizeCatalog(row.content)
}

/** JSON with sorted keys, so that reordering a file does not make a new version. */
function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    inner !== null && typeof inner === 'object' && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  )
}
