import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { withTable, type Run } from './figures.ts'

test('the README shows the figures of the run that is kept', () => {
  const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')
  const run = JSON.parse(readFileSync(new URL('../results/reference.json', import.meta.url), 'utf8')) as Run
  for (const { title } of run.rows) expect(readme).toContain(title)
  expect(readme).toBe(withTable(readme, run))
})
