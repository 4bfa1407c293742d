import { enableCompileCache } from 'node:module'
import { readConfig, readEnvironment, type Config } from '../config.ts'
import { guardLive } from './live-guard.ts'
import { createProgram } from './program.ts'
import { explain, output } from './terminal.ts'

// Compiled code is kept between starts: a third of the time until the server is ready.
enableCompileCache()

const environment = readEnvironment(process.cwd(), process.env)
const config = (): Config => readConfig(environment)

try {
  await createProgram({
    output,
    dataDir: environment['TOLLGATE_DATA_DIR'] ?? '.tollgate',
    operatorKey: environment['TOLLGATE_OPERATOR_KEY'],
    variables: environment,
    launchers: {
      dev: async (options) => {
        guardLive(config(), options)
        return (await import('./dev.ts')).runDevelopment({ config: config() }, output)
      },
      start: async () => (await import('./start.ts')).runServer(config(), output),
      migrate: async () => (await import('./maintenance.ts')).runMigrations(config()),
      push: async (options) => (await import('./maintenance.ts')).runPush(config(), options),
      pull: async (options) => (await import('./maintenance.ts')).runPull(config(), options),
      doctor: async () => (await import('./doctor.ts')).examine(environment),
    },
  }).parseAsync(process.argv)
} catch (error) {
  process.exitCode = explain(error, output)
}
