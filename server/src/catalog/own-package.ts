import { registerHooks } from 'node:module'

const OWN_PACKAGE = '@tollgate/server/catalog'
const DEFINE = new URL('./define.ts', import.meta.url).href

/**
 * Imports a module to which `@tollgate/server/catalog` is this server's own, wherever it lies: a catalog is kept beside the
 * product that it is of, where no such package is installed.
 * @param url of the file, `file:`
 * @throws whatever the import does
 */
export async function importWithOwnPackage(url: string): Promise<{ readonly default?: unknown }> {
  const hooks = registerHooks({
    resolve: (specifier, context, next) =>
      specifier === OWN_PACKAGE ? { url: DEFINE, shortCircuit: true } : next(specifier, context),
  })
  try {
    return (await import(url)) as { readonly default?: unknown }
  } finally {
    hooks.deregister()
  }
}
