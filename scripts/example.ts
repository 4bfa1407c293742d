// `npm run example -- <name>`: starts the host application of examples/<name> with Tollgate mounted in its own process; an example
// that has none is the server alone with its catalog. Each keeps its data apart, in examples/<name>/.tollgate, unless TOLLGATE_DATA_DIR
// says otherwise: what one has made would stand in the way of what the README of another tells.
import { existsSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { DevelopmentOptions } from '../server/src/dev.ts'
import { runDevelopment } from '../server/src/cli/dev.ts'
import { explain, output } from '../server/src/cli/terminal.ts'
import { readConfig, readEnvironment } from '../server/src/config.ts'

const examples = join(dirname(dirname(fileURLToPath(import.meta.url))), 'examples')
const names = readdirSync(examples).filter((name) => existsSync(join(examples, name, 'billing.config.ts')))
const name = process.argv[2] ?? ''

if (names.includes(name)) {
  try {
    const environment = readEnvironment(process.cwd(), process.env)
    const TOLLGATE_DATA_DIR = environment['TOLLGATE_DATA_DIR'] || join('examples', name, '.tollgate')
    const config = readConfig({ ...environment, TOLLGATE_DATA_DIR })
    await runDevelopment({ config, catalogPath: join(examples, name, 'billing.config.ts'), ...(await hostOf(name)) }, output)
  } catch (error) {
    process.exitCode = explain(error, output)
  }
} else {
  output.err(`Which example? One of: ${names.join(', ')}. For instance: npm run example -- ${names[0]}\n`)
  process.exitCode = 2
}

async function hostOf(example: string): Promise<Pick<DevelopmentOptions, 'createHost'>> {
  const path = join(examples, example, 'host.ts')
  return existsSync(path) ? ((await import(pathToFileURL(path).href)) as Required<Pick<DevelopmentOptions, 'createHost'>>) : {}
}
