// `npm run example -- <name>`: starts a host application of examples/<name> with Tollgate mounted in its own process.
import { existsSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { DevelopmentOptions } from '../server/src/dev.ts'
import { runDevelopment } from '../server/src/cli/dev.ts'
import { explain, output } from '../server/src/cli/terminal.ts'
import { readConfig, readEnvironment } from '../server/src/config.ts'

const examples = join(dirname(dirname(fileURLToPath(import.meta.url))), 'examples')
const names = readdirSync(examples).filter((name) => existsSync(join(examples, name, 'host.ts')))
const name = process.argv[2] ?? ''

if (names.includes(name)) {
  const { createHost } = (await import(pathToFileURL(join(examples, name, 'host.ts')).href)) as {
    createHost: NonNullable<DevelopmentOptions['createHost']>
  }
  try {
    const config = readConfig(readEnvironment(process.cwd(), process.env))
    await runDevelopment({ config, catalogPath: join(examples, name, 'billing.config.ts'), createHost }, output)
  } catch (error) {
    process.exitCode = explain(error, output)
  }
} else {
  output.err(`Which example? One of: ${names.join(', ')}. For instance: npm run example -- ${names[0]}\n`)
  process.exitCode = 2
}
