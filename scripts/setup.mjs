// Runs before start, test, demo, bench and example, on whatever Node the machine has (20 or newer):
// installs the locked packages when what is installed is not what the lock file says.
// Node 24 itself is one of them, so the command after this one finds it first in PATH.
// With a folder it does the same there: tests/runtimes is no workspace, so that only tests install it.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(dirname(fileURLToPath(import.meta.url))), process.argv[2] ?? '.')

/** The locked packages that are not installed at the locked version, by their path. */
function findMissingPackages() {
  const installedPath = join(root, 'node_modules/.package-lock.json')
  if (!existsSync(installedPath)) return ['all']
  const locked = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages
  const installed = JSON.parse(readFileSync(installedPath, 'utf8')).packages
  return Object.keys(locked).filter((path) => {
    const [entry, found] = [locked[path], installed[path]]
    // A workspace's own packages are below its folder; what is optional and not in the list is for other machines.
    if (!path.includes('node_modules/') || entry.link || (entry.optional && !found)) return false
    // An install that was ended half-way leaves its list of packages behind, without the packages.
    return found?.version !== entry.version || !existsSync(join(root, path, 'package.json'))
  })
}

const missing = findMissingPackages()
if (missing.length > 0) {
  process.stderr.write(`Installing packages (${missing.length === 1 ? missing[0] : `${missing.length} missing`}) …\n`)
  const npm = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], { cwd: root, stdio: ['ignore', 2, 2] })
  if (npm.status !== 0) {
    process.stderr.write('The packages could not be installed; `npm ci` says why above.\n')
    process.exit(npm.status ?? 1)
  }
}
