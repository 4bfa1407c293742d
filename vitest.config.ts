import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

const common = {
  exclude: ['**/node_modules/**'],
  setupFiles: ['tests/property-seed.ts'],
  // A worker loads what is tested once instead of once for each file, which was most of a small file's time.
  isolate: false,
  // These end what hangs, and measure nothing: a machine may be busy with other things.
  testTimeout: 240_000,
  hookTimeout: 240_000,
  expect: { poll: { timeout: 60_000 } },
}

export default defineConfig({
  test: {
    // Files wait for PostgreSQL and for processes that they start. One at a time, as Vitest takes them on two cores, took about a third longer.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    projects: [
      {
        // What may need a database: one PostgreSQL for all of it, a clone per file (server/test/README.md).
        test: {
          ...common,
          name: 'server',
          include: ['{server,examples,bench,e2e}/**/*.test.ts', 'tests/libraries/*.test.ts'],
          globalSetup: ['server/test/global-setup.ts'],
        },
      },
      {
        test: { ...common, name: 'rest', include: ['{sandbox,sdk}/**/*.test.ts', 'tests/*.test.ts', 'tests/runtimes/*.test.ts'] },
      },
    ],
  },
})
