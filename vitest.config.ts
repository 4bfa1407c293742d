import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['{server,sandbox,sdk,examples,bench,e2e,tests}/**/*.test.ts'],
    exclude: ['**/node_modules/**'],
    testTimeout: 20_000,
    hookTimeout: 60_000,
  },
})
